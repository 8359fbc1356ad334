use super::super::identity::Identity;
use super::super::schedule::Party;
use super::*;
use minicbor::{decode, to_vec};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

const HYBRID: &[Mode] = &[Mode::X25519MlKem768, Mode::X25519];
const PLAIN: &[Mode] = &[Mode::X25519];

fn context() -> Context<'static> {
    let key = |seed| Identity::from_seed(&[seed; 32]).public();
    Context {
        transfer: &[1; 16],
        asker: Party { name: "ann@s1", key: key(1) },
        holder: Party { name: "bob@s2", key: key(2) },
        group: b"group",
        root: &[9; 32],
        size: 1_000_000,
        // A whole file, ARQ as it comes, no fixed window, datagrams of 1,200 bytes.
        terms: &[0, 0, 0, 0, 0, 0, 0, 0x04, 0xb0],
    }
}

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

fn start(modes: &[Mode]) -> (Requester, Offer) {
    Requester::start(&mut rng(1), modes, None).unwrap()
}

fn same(a: &FileKeys, b: &FileKeys) -> bool {
    a.asker_to_holder.key == b.asker_to_holder.key
        && a.asker_to_holder.iv == b.asker_to_holder.iv
        && a.holder_to_asker.key == b.holder_to_asker.key
        && a.confirm_asker.matches(b.confirm_asker.as_bytes())
        && a.confirm_holder.matches(b.confirm_holder.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn both_sides_get_the_same_keys_in_every_mode() {
    for (asker, holder, kem) in [(HYBRID, HYBRID, true), (HYBRID, PLAIN, false), (PLAIN, HYBRID, false)] {
        let (requester, offer) = start(asker);
        let (answer, theirs) = respond(&mut rng(2), &offer, holder, &context()).unwrap();
        assert_eq!(answer.mlkem_ct.is_some(), kem);
        let ours = requester.finish(&answer, &context()).unwrap();
        assert!(same(&ours, &theirs));
    }
}

#[test]
fn no_common_mode_is_an_error_on_both_sides() {
    let (requester, offer) = start(PLAIN);
    let only_hybrid = &[Mode::X25519MlKem768];
    assert_eq!(respond(&mut rng(2), &offer, only_hybrid, &context()).unwrap_err(), AgreementError::NoCommonMode);
    let (mut answer, _) = respond(&mut rng(2), &offer, PLAIN, &context()).unwrap();
    answer.modes = ModeList::of(only_hybrid);
    assert_eq!(requester.finish(&answer, &context()).unwrap_err(), AgreementError::NoCommonMode);
}

#[test]
fn a_difference_in_any_context_field_gives_other_keys() {
    let base = context();
    let other_key = Identity::from_seed(&[3; 32]).public();
    let changed = [
        Context { transfer: &[2; 16], ..base },
        Context { asker: Party { name: "eve@s1", ..base.asker }, ..base },
        Context { asker: Party { key: other_key, ..base.asker }, ..base },
        Context { holder: Party { name: "eve@s1", ..base.holder }, ..base },
        Context { holder: Party { key: other_key, ..base.holder }, ..base },
        Context { asker: base.holder, holder: base.asker, ..base },
        Context { group: b"other", ..base },
        Context { root: &[8; 32], ..base },
        Context { size: 1_000_001, ..base },
        Context { terms: &[1], ..base },
    ];
    for (i, theirs) in changed.iter().enumerate() {
        let (requester, offer) = start(HYBRID);
        let (answer, b) = respond(&mut rng(2), &offer, HYBRID, theirs).unwrap();
        let a = requester.finish(&answer, &base).unwrap();
        assert!(!same(&a, &b), "field {i}");
        assert!(!a.confirm_holder.matches(b.confirm_holder.as_bytes()), "field {i}");
    }
}

#[test]
fn a_stripped_mode_or_changed_part_never_gives_equal_keys() {
    let tampers: [fn(&mut Offer); 5] = [
        |o| o.modes = ModeList::of(PLAIN),
        |o| o.random[0] ^= 1,
        |o| o.x25519[0] ^= 1,
        |o| {
            o.mlkem_ek = None;
            o.modes = ModeList::of(PLAIN);
        },
        |o| o.modes = ModeList("new-mode,x25519+mlkem768,x25519".into()),
    ];
    for (i, tamper) in tampers.into_iter().enumerate() {
        let (requester, mut offer) = start(HYBRID);
        tamper(&mut offer);
        let (answer, b) = respond(&mut rng(2), &offer, HYBRID, &context()).unwrap();
        if let Ok(a) = requester.finish(&answer, &context()) {
            assert!(!same(&a, &b), "tamper {i}");
        }
    }
}

#[test]
fn a_changed_ciphertext_gives_other_keys_and_a_wrong_size_an_error() {
    let (requester, offer) = start(HYBRID);
    let (mut answer, b) = respond(&mut rng(2), &offer, HYBRID, &context()).unwrap();
    answer.mlkem_ct.as_mut().unwrap()[5] ^= 1;
    assert!(!same(&requester.finish(&answer, &context()).unwrap(), &b));
    for ct in [None, Some(vec![]), Some(vec![0; 1087]), Some(vec![0; 1089])] {
        let (requester, _) = start(HYBRID);
        answer.mlkem_ct = ct;
        assert_eq!(requester.finish(&answer, &context()).unwrap_err(), AgreementError::Malformed);
    }
    let (_, mut offer) = start(HYBRID);
    for ek in [None, Some(vec![]), Some(vec![0; 1183]), Some(vec![0xff; 1184])] {
        offer.mlkem_ek = ek;
        assert_eq!(respond(&mut rng(2), &offer, HYBRID, &context()).unwrap_err(), AgreementError::Malformed);
    }
}

/// The points of small order on Curve25519 and its twist, as Wycheproof's x25519 suite flags them, with and without the top bit, which
/// X25519 ignores.
#[test]
fn every_low_order_point_ends_the_agreement_on_either_side() {
    let points = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    for text in points {
        let mut point: [u8; 32] = std::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap());
        for _ in 0..2 {
            let (requester, mut offer) = start(PLAIN);
            let (mut answer, _) = respond(&mut rng(2), &offer, PLAIN, &context()).unwrap();
            offer.x25519 = point;
            assert_eq!(
                respond(&mut rng(2), &offer, PLAIN, &context()).unwrap_err(),
                AgreementError::WeakPoint,
                "{text}"
            );
            answer.x25519 = point;
            assert_eq!(requester.finish(&answer, &context()).unwrap_err(), AgreementError::WeakPoint, "{text}");
            point[31] ^= 0x80;
        }
    }
}

#[test]
fn the_strongest_common_mode_is_chosen_and_unknown_names_are_skipped() {
    let list = |text: &str| ModeList(text.into());
    assert_eq!(
        choose(&list("x25519,x25519+mlkem768"), &list("future,x25519+mlkem768,x25519")),
        Some(Mode::X25519MlKem768)
    );
    assert_eq!(choose(&list("rsa-split,x25519"), &list("x25519")), Some(Mode::X25519));
    assert_eq!(choose(&list(""), &list("")), None);
    for mode in Mode::ALL {
        assert_eq!(Mode::from_name(&mode.to_string()), Some(mode));
    }
}

#[test]
fn rsa_split_is_offered_only_with_its_public_part() {
    let (_, offer) = start(&Mode::ALL);
    assert!(!offer.modes.has(Mode::RsaSplit));
    let forged = Offer { modes: ModeList::of(&Mode::ALL), ..offer };
    assert_eq!(respond(&mut rng(2), &forged, &Mode::ALL, &context()).unwrap_err(), AgreementError::Malformed);
}

#[test]
fn a_swapped_modulus_or_part_or_a_stripped_rsa_mode_gives_other_first_stage_keys() {
    let part = rsa_split::PublicPart { n: [0x81; 384], y: [2; 35], x_hash: [3; 32] };
    let tampers: [fn(&mut Offer); 5] = [
        |_| (),
        |o| o.rsa.as_mut().unwrap().n[7] ^= 1,
        |o| o.rsa.as_mut().unwrap().y[7] ^= 1,
        |o| o.rsa.as_mut().unwrap().x_hash[7] ^= 1,
        |o| o.modes = ModeList::of(HYBRID),
    ];
    for (i, tamper) in tampers.into_iter().enumerate() {
        let (requester, mut offer) = Requester::start(&mut rng(1), &Mode::ALL, Some(part.clone())).unwrap();
        tamper(&mut offer);
        let (answer, b) = respond(&mut rng(2), &offer, &Mode::ALL, &context()).unwrap();
        let a = requester.finish(&answer, &context()).unwrap();
        assert_eq!(same(&a, &b), i == 0, "tamper {i}");
    }
}

#[test]
fn offer_and_answer_read_back_and_every_truncation_is_refused() {
    let (_, offer) = start(HYBRID);
    let (answer, _) = respond(&mut rng(2), &offer, HYBRID, &context()).unwrap();
    let (a, b) = (to_vec(&offer).unwrap(), to_vec(&answer).unwrap());
    assert_eq!(decode::<Offer>(&a).unwrap(), offer);
    assert_eq!(decode::<Answer>(&b).unwrap(), answer);
    assert!((0..a.len()).all(|len| decode::<Offer>(&a[..len]).is_err()));
    assert!((0..b.len()).all(|len| decode::<Answer>(&b[..len]).is_err()));
    for modes in ["x".repeat(MODES_MAX + 1), "x25519\x1b[31m".into()] {
        assert!(decode::<ModeList>(&to_vec(&modes).unwrap()).is_err());
    }
}

/// The X25519-only vector of docs/PROTOCOL.md: fixed secrets on both sides, so that the transcript is fixed too.
#[test]
fn the_published_transcript_vector_holds() {
    let (asker, holder) = ([0x21; 32], [0x22; 32]);
    let public = |secret| PublicKey::from(&x25519_dalek::StaticSecret::from(secret)).to_bytes();
    let offer =
        Offer { modes: ModeList::of(PLAIN), random: [0x11; 32], x25519: public(asker), mlkem_ek: None, rsa: None };
    let answer = Answer { modes: ModeList::of(PLAIN), random: [0x12; 32], x25519: public(holder), mlkem_ct: None };
    let shared = x25519_dalek::x25519(asker, public(holder));
    assert_eq!(shared, x25519_dalek::x25519(holder, public(asker)));
    let keys = derive(&offer, &answer, &context(), &shared, None);
    assert_eq!(hex(&keys.transcript), "9321cef5bc1053c3678092002d4557dd1787da50f31f51f91db5c82a0603feee");
    assert_eq!(hex(&keys.asker_to_holder.key), "5d476736f025190b26f9b7b208715c32e1f77e15a4bf11473ba77d037c769608");
    assert_eq!(hex(keys.confirm_holder.as_bytes()), "7071b6b65fdfe735ca5be0f3e6ffd6a6856d1d5e3ef17e14d1e142acb3391d15");
}
