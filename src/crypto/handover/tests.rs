use super::super::agreement::{Answer, Mode, ModeList, Offer, Requester, respond};
use super::super::identity::Identity;
use super::super::schedule::{Context, Input, Party, schedule};
use super::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use rsa::{BigUint, RsaPrivateKey};
use std::sync::OnceLock;

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// One key for all tests, since making one takes seconds.
fn made() -> (SplitKey, PublicPart, PathPart) {
    static KEY: OnceLock<RsaPrivateKey> = OnceLock::new();
    let key =
        KEY.get_or_init(|| RsaPrivateKey::new_with_exp(&mut rng(5), 3072, &BigUint::from(65537_u32)).unwrap()).clone();
    SplitKey::split(&mut rng(6), key).unwrap()
}

fn context() -> Context<'static> {
    let key = |seed| Identity::from_seed(&[seed; 32]).public();
    Context {
        transfer: &[1; 16],
        asker: Party { name: "ann@s1", key: key(1) },
        holder: Party { name: "bob@s2", key: key(2) },
        group: b"group",
        root: &[9; 32],
        size: 1_000_000,
        terms: &[],
    }
}

/// Both sides after the agreement; `tamper` acts on the request, `answered` on the answer, as somebody between them might.
fn agreed(
    tamper: impl FnOnce(&mut Offer, &mut PathPart),
    answered: impl FnOnce(&mut Answer),
) -> Option<(Handover, Handover)> {
    let (key, public, mut path) = made();
    let (requester, mut offer) = Requester::start(&mut rng(1), &Mode::ALL, Some(public)).unwrap();
    tamper(&mut offer, &mut path);
    let (mut answer, holders) = respond(&mut rng(2), &offer, &Mode::ALL, &context()).ok()?;
    answered(&mut answer);
    let askers = requester.finish(&answer, &context()).ok()?;
    Some((Handover::asker(askers, key, path), Handover::holder(holders, offer.rsa?)))
}

fn honest() -> (Handover, Handover) {
    agreed(|_, _| (), |_| ()).unwrap()
}

/// The hand-over from end to end: stage two at both, or where it ended.
fn run(asker: &mut Handover, holder: &mut Handover) -> Result<(StageTwo, StageTwo), SplitError> {
    let first = asker.first().unwrap();
    assert!(holder.first().is_none());
    let taken = holder.take(&mut rng(3), &first)?;
    let at_asker = asker.take(&mut rng(4), &taken.reply.unwrap())?;
    assert!(at_asker.reply.is_none());
    Ok((at_asker.keys.unwrap(), taken.keys.unwrap()))
}

#[test]
fn both_sides_come_to_the_same_stage_two_and_x_goes_alone() {
    let (mut asker, mut holder) = honest();
    assert_eq!(asker.first().unwrap().len(), 32, "x, and nothing else");
    let (a, b) = run(&mut asker, &mut holder).unwrap();
    assert_eq!((*a.send, *a.receive), (*b.receive, *b.send));
    assert_ne!(*a.send, *a.receive);
    assert_eq!((a.our_connection, a.peer_connection), (b.peer_connection, b.our_connection));
    assert_ne!(a.our_connection, a.peer_connection);
    assert_eq!(format!("{asker:?} {a:?}"), "Handover(..) StageTwo(..)");
}

#[test]
fn stage_two_is_under_other_keys_than_stage_one() {
    let (key, public, path) = made();
    let (requester, offer) = Requester::start(&mut rng(1), &Mode::ALL, Some(public.clone())).unwrap();
    let (answer, holders) = respond(&mut rng(2), &offer, &Mode::ALL, &context()).unwrap();
    let first = [joined(&holders.asker_to_holder), joined(&holders.holder_to_asker)];
    let askers = requester.finish(&answer, &context()).unwrap();
    let (mut asker, mut holder) = (Handover::asker(askers, key, path), Handover::holder(holders, public));
    let (a, _) = run(&mut asker, &mut holder).unwrap();
    assert!(first.iter().all(|key| **key != *a.send && **key != *a.receive));
}

#[test]
fn repeats_are_answered_alike_and_give_no_keys_again() {
    let (mut asker, mut holder) = honest();
    let first = asker.first().unwrap();
    let one = holder.take(&mut rng(3), &first).unwrap();
    let two = holder.take(&mut rng(33), &first).unwrap();
    assert!(one.reply == two.reply && two.keys.is_none());
    assert!(asker.take(&mut rng(4), &one.reply.clone().unwrap()).unwrap().keys.is_some());
    // The key has decrypted once and is gone.
    let again = asker.take(&mut rng(4), &one.reply.unwrap()).unwrap();
    assert!(again.keys.is_none() && again.reply.is_none());
    let mut other = first.to_vec();
    other[0] ^= 1;
    assert_eq!(holder.take(&mut rng(3), &other).unwrap_err(), SplitError::PathPart, "another x after the first");
}

#[test]
fn a_tampered_x_or_y_or_a_swapped_n_ends_it() {
    // x, on its way.
    let (asker, mut holder) = honest();
    for at in [0, 31] {
        let mut x = asker.first().unwrap().to_vec();
        x[at] ^= 2;
        let (_, mut holder) = honest();
        assert_eq!(holder.take(&mut rng(3), &x).unwrap_err(), SplitError::PathPart);
    }
    for x in [&[][..], &[0xff; 31], &[0xff; 33]] {
        assert_eq!(holder.take(&mut rng(3), x).unwrap_err(), SplitError::PathPart);
    }
    // y, and the hash that names x.
    let tampers: [fn(&mut PublicPart); 2] = [|part| part.y[20] ^= 1, |part| part.x_hash[0] ^= 1];
    for (tamper, error) in tampers.into_iter().zip([SplitError::Exponent, SplitError::PathPart]) {
        let (mut asker, mut holder) = agreed(|offer, _| tamper(offer.rsa.as_mut().unwrap()), |_| ()).unwrap();
        assert_eq!(run(&mut asker, &mut holder).unwrap_err(), error);
    }
    // Another n: the transcripts differ, so the label does, and nothing opens. (Stage one would not have come so far.)
    let swap = |offer: &mut Offer, _: &mut PathPart| offer.rsa.as_mut().unwrap().n[100] ^= 1;
    let (mut asker, mut holder) = agreed(swap, |_| ()).unwrap();
    assert!(run(&mut asker, &mut holder).is_err());
}

#[test]
fn an_attackers_own_key_in_place_of_the_requests_does_not_lead_to_the_holders_secret() {
    let theirs = RsaPrivateKey::new_with_exp(&mut rng(7), 3072, &BigUint::from(65537_u32)).unwrap();
    let (_, public, path) = SplitKey::split(&mut rng(8), theirs).unwrap();
    let swap = move |offer: &mut Offer, x: &mut PathPart| {
        offer.rsa = Some(public);
        *x = path;
    };
    // Both parts are exchanged, on both paths: the holder sees nothing wrong, but the asker cannot open what comes.
    let (mut asker, mut holder) = agreed(swap, |_| ()).unwrap();
    assert_eq!(run(&mut asker, &mut holder).unwrap_err(), SplitError::Ciphertext);
}

#[test]
fn a_stripped_mode_gives_no_common_keys() {
    let hybrid = [Mode::X25519MlKem768, Mode::X25519];
    // In the answer: the asker would run without the hand-over, under keys that the holder does not have.
    let (key, public, _) = made();
    let (requester, offer) = Requester::start(&mut rng(1), &Mode::ALL, Some(public)).unwrap();
    let (mut answer, holders) = respond(&mut rng(2), &offer, &Mode::ALL, &context()).unwrap();
    answer.modes = ModeList::of(&hybrid);
    let askers = requester.finish(&answer, &context()).unwrap();
    assert!(!askers.confirm_holder.matches(holders.confirm_holder.as_bytes()));
    drop(key);
    // In the request: the holder answers without it, and the asker, who computes the mode from both lists, has other keys.
    let strip = |offer: &mut Offer, _: &mut PathPart| {
        offer.modes = ModeList::of(&[Mode::X25519MlKem768, Mode::X25519]);
    };
    let (mut asker, mut holder) = agreed(strip, |_| ()).unwrap();
    assert!(run(&mut asker, &mut holder).is_err());
}

#[test]
fn a_known_rsa_secret_alone_opens_nothing() {
    let (key, public, path) = made();
    let (requester, offer) = Requester::start(&mut rng(1), &Mode::ALL, Some(public.clone())).unwrap();
    let (answer, holders) = respond(&mut rng(2), &offer, &Mode::ALL, &context()).unwrap();
    let transcript = holders.transcript;
    drop(requester.finish(&answer, &context()).unwrap());
    let mut holder = Handover::holder(holders, public);
    let taken = holder.take(&mut rng(3), path.as_bytes()).unwrap();
    let ciphertext = taken.reply.unwrap();
    // Somebody has factored n: the secret is theirs, and all that is public.
    let secret = key.open(&mut rng(4), &transcript, &ciphertext).unwrap();
    let keys = taken.keys.unwrap();
    let mut second = super::super::schedule::Transcript::new("secchat/1 file transcript 2");
    let hash = second.field(&transcript).field(&ciphertext).hash();
    for guess in [vec![Input::Rsa(&secret)], vec![Input::Stage(&[0; 32]), Input::Rsa(&secret)]] {
        let guess = schedule(&hash, &guess);
        assert!(*joined(&guess.asker_to_holder) != *keys.receive && *joined(&guess.holder_to_asker) != *keys.send);
    }
}
