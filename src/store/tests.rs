use super::*;
use crate::crypto::identity::PublicKey;
use crate::wire::id::Id;
use crate::wire::log::{Chain, RemoveReason, Row, RowKind};
use crate::wire::name::Name;
use crate::wire::policy::RoomKind;

const DEN: crate::wire::id::RoomId = Id([1; 16]);

fn room() -> LoadedRoom {
    LoadedRoom {
        id: DEN,
        label: Some(Name::parse("den").unwrap()),
        kind: RoomKind::Private,
        door: Some("phc".into()),
        state: RoomState { epoch: 0, since: 0, group_info: vec![1], tree: vec![2], vouch: Some([3; 64]) },
        head: 0,
        chain: Chain::start(&DEN).0,
        last_used_ms: 5,
        standing: Vec::new(),
        recent: Vec::new(),
    }
}

fn row(seq: u64, kind: RowKind, bytes: &[u8]) -> Write {
    let row = Row { seq, time_ms: seq * 1000, kind, bytes: bytes.to_vec().into(), reason: None };
    Write::Append { room: DEN, row, chain: [u8::try_from(seq).unwrap(); 32] }
}

fn with_room() -> ServerStore {
    let mut store = ServerStore::in_memory().unwrap();
    store.apply(&[Write::NewRoom(Box::new(room()))]).unwrap();
    store
}

#[test]
fn what_is_applied_is_loaded_again() {
    let dir = tempfile::tempdir().unwrap();
    let (name, key) = (Name::parse("bob").unwrap(), PublicKey::from_bytes([9; 32]));
    let state = RoomState { epoch: 1, since: 1, group_info: vec![4], tree: vec![5], vouch: None };
    let secret = {
        let mut store = ServerStore::open(dir.path()).unwrap();
        let writes = [
            Write::Name { name: name.clone(), key, since_ms: 1 },
            Write::Instance { key, instance: Id([2; 16]) },
            Write::Instance { key, instance: Id([3; 16]) },
            Write::NewRoom(Box::new(room())),
            row(1, RowKind::Commit, b"commit"),
            Write::Epoch { room: DEN, state: Box::new(state.clone()), door: Some("new".into()) },
            row(2, RowKind::Proposal, b"proposal"),
        ];
        store.apply(&writes).unwrap();
        store.load().unwrap().secret
    };
    let loaded = ServerStore::open(dir.path()).unwrap().load().unwrap();
    assert_eq!(loaded.secret.bytes(), secret.bytes());
    assert_eq!((loaded.names, loaded.instances), (vec![(name, key)], vec![(key, Id([3; 16]))]));
    let standing = vec![StandingRow { bytes: b"proposal".to_vec(), reason: None }];
    let recent = vec![(1, 1000, digest(b"commit")), (2, 2000, digest(b"proposal"))];
    let expected = LoadedRoom {
        door: Some("new".into()),
        state,
        head: 2,
        chain: [2; 32],
        last_used_ms: 2000,
        standing,
        recent,
        ..room()
    };
    assert_eq!(loaded.rooms, [expected]);
}

#[test]
fn a_batch_is_all_or_nothing() {
    let mut store = with_room();
    let hole = [row(1, RowKind::Message, b"a"), row(3, RowKind::Message, b"b")];
    assert!(store.apply(&hole).is_err());
    assert_eq!(store.load().unwrap().rooms[0].head, 0);
    assert!(store.page(&DEN, 0).unwrap().rows.is_empty());
    assert!(store.apply(&[row(1, RowKind::Message, b"a"), row(1, RowKind::Message, b"a")]).is_err());
}

#[test]
fn pages_are_bounded_in_bytes_but_never_empty() {
    let mut store = with_room();
    let big = vec![0; crate::limits::LOG_PAGE_BYTES];
    let rows = [row(1, RowKind::Message, &big), row(2, RowKind::Message, &big), row(3, RowKind::Message, b"x")];
    store.apply(&rows).unwrap();
    let seqs = |after| store.page(&DEN, after).unwrap().rows.iter().map(|r| r.seq).collect::<Vec<_>>();
    assert_eq!((seqs(0), seqs(1), seqs(2), seqs(3)), (vec![1], vec![2], vec![3], vec![]));
}

#[test]
fn a_trimmed_log_begins_later_and_keeps_standing_proposals() {
    let mut store = with_room();
    let mut removal = row(1, RowKind::Proposal, b"remove");
    if let Write::Append { row, .. } = &mut removal {
        row.reason = Some(RemoveReason::Lost);
    }
    let rest = (2..=5).map(|seq| row(seq, RowKind::Message, &[0; 100]));
    let writes: Vec<Write> = std::iter::once(removal).chain(rest).collect();
    store.apply(&writes).unwrap();
    store.apply(&[Write::Trim { room: DEN, before_ms: 2500, max_bytes: 10_000 }]).unwrap();
    assert_eq!(store.page(&DEN, 0).unwrap(), LogPage { rows: Vec::new(), first: 3 });
    store.apply(&[Write::Trim { room: DEN, before_ms: 0, max_bytes: 150 }]).unwrap();
    assert_eq!(store.page(&DEN, 4).unwrap().first, 5);
    let standing = &store.load().unwrap().rooms[0].standing;
    assert_eq!(standing[..], [StandingRow { bytes: b"remove".to_vec(), reason: Some(RemoveReason::Lost) }]);
    store.apply(&[row(6, RowKind::Message, b"on")]).unwrap();
    assert_eq!(store.page(&DEN, 4).unwrap().rows.len(), 2);
}

#[test]
fn a_removed_room_takes_its_log_along() {
    let mut store = with_room();
    store.apply(&[row(1, RowKind::Message, b"a"), Write::RemoveRoom { room: DEN }]).unwrap();
    assert!(store.load().unwrap().rooms.is_empty());
    store.apply(&[Write::NewRoom(Box::new(room())), row(1, RowKind::Message, b"b")]).unwrap();
    assert_eq!(store.page(&DEN, 0).unwrap().rows.len(), 1);
}

#[test]
fn a_data_directory_has_one_owner_and_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut store = ServerStore::open(&data).unwrap();
    store.apply(&[Write::NewRoom(Box::new(room()))]).unwrap();
    let error = ServerStore::open(&data).unwrap_err().to_string();
    assert!(error.ends_with(&format!("is in use by process {}", std::process::id())), "{error}");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    for file in fs::read_dir(&data).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    drop(store);
    assert!(ServerStore::open(&data).is_ok());
}

fn seqs(store: &ServerStore, room: crate::wire::id::RoomId) -> Vec<u64> {
    let page = store.page(&room, store.page(&room, 0).unwrap().first - 1).unwrap();
    page.rows.iter().map(|r| r.seq).collect()
}

#[test]
fn logs_that_are_too_large_together_give_up_the_oldest_of_the_largest() {
    let mut store = with_room();
    let other = LoadedRoom { id: Id([2; 16]), label: None, ..room() };
    let small = Row { seq: 1, time_ms: 1, kind: RowKind::Message, bytes: vec![1; 100].into(), reason: None };
    let mut writes =
        vec![Write::NewRoom(Box::new(other)), Write::Append { room: Id([2; 16]), row: small, chain: [0; 32] }];
    writes.extend((1..=8).map(|seq| row(seq, RowKind::Message, &[0; 100])));
    store.apply(&writes).unwrap();
    store.apply(&[Write::Bound { max_bytes: 900 }]).unwrap();
    assert_eq!((seqs(&store, DEN).len(), seqs(&store, Id([2; 16])).len()), (8, 1), "all fit");
    store.apply(&[Write::Bound { max_bytes: 450 }]).unwrap();
    assert_eq!((seqs(&store, DEN), seqs(&store, Id([2; 16]))), (vec![7, 8], vec![1]));
    store.apply(&[row(9, RowKind::Message, &[0; 100]), Write::Bound { max_bytes: 450 }]).unwrap();
    assert_eq!(seqs(&store, DEN), [7, 8, 9], "what was given up does not count any more");
    let mut removal = row(10, RowKind::Proposal, &[0; 1000]);
    if let Write::Append { row, .. } = &mut removal {
        row.reason = Some(RemoveReason::Lost);
    }
    store.apply(&[removal, Write::Bound { max_bytes: 10 }]).unwrap();
    assert_eq!(store.load().unwrap().rooms[0].standing.len(), 1, "it ends although what stands is larger");
}

#[test]
fn a_database_of_the_first_version_knows_the_size_of_its_logs_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = ServerStore::open(dir.path()).unwrap();
    let writes = (1..=4).map(|seq| row(seq, RowKind::Message, &[0; 100]));
    let writes: Vec<Write> = std::iter::once(Write::NewRoom(Box::new(room()))).chain(writes).collect();
    store.apply(&writes).unwrap();
    store
        .connection
        .execute_batch(
            "DROP TABLE log_sizes; DROP TABLE register; DROP TABLE acts; UPDATE schema_version SET version = 1",
        )
        .unwrap();
    drop(store);
    let mut store = ServerStore::open(dir.path()).unwrap();
    store.apply(&[Write::Bound { max_bytes: 250 }]).unwrap();
    assert_eq!(seqs(&store, DEN), [3, 4]);
}

#[test]
fn a_database_of_a_newer_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(ServerStore::open(dir.path()).unwrap());
    let db = Connection::open(dir.path().join(DATABASE)).unwrap();
    db.execute("UPDATE schema_version SET version = 99", []).unwrap();
    drop(db);
    assert!(matches!(ServerStore::open(dir.path()), Err(StoreError::Newer { found: 99, .. })));
}

#[cfg(feature = "failpoints")]
mod killed {
    use super::*;
    use std::process::Command;

    const DIR: &str = "SECCHAT_FAILPOINT_TEST_DIR";

    /// Run in a process of its own by the test below; does nothing otherwise.
    #[test]
    fn child() {
        let Some(dir) = std::env::var_os(DIR) else { return };
        let mut store = ServerStore::open(Path::new(&dir)).unwrap();
        let (name, key) = (Name::parse("bob").unwrap(), PublicKey::from_bytes([9; 32]));
        let state = RoomState { epoch: 1, since: 1, group_info: vec![4], tree: vec![5], vouch: None };
        let other = LoadedRoom { id: Id([2; 16]), label: None, ..room() };
        let batch = [
            Write::Name { name, key, since_ms: 1 },
            Write::Instance { key, instance: Id([2; 16]) },
            Write::NewRoom(Box::new(other)),
            row(1, RowKind::Commit, b"commit"),
            Write::Epoch { room: DEN, state: Box::new(state), door: None },
            Write::Trim { room: DEN, before_ms: 0, max_bytes: 0 },
            Write::RemoveRoom { room: Id([2; 16]) },
        ];
        store.apply(&batch).unwrap();
    }

    #[test]
    fn at_each_point_the_batch_is_there_wholly_or_not_at_all() {
        for point in FAILPOINTS {
            let dir = tempfile::tempdir().unwrap();
            ServerStore::open(dir.path()).unwrap().apply(&[Write::NewRoom(Box::new(room()))]).unwrap();
            let status = Command::new(std::env::current_exe().unwrap())
                .args(["store::tests::killed::child", "--exact"])
                .env(DIR, dir.path())
                .env("SECCHAT_FAILPOINT", point)
                .output()
                .unwrap()
                .status;
            assert!(!status.success(), "{point} was passed");
            let loaded = ServerStore::open(dir.path()).unwrap().load().unwrap();
            let seen = (loaded.names.len(), loaded.rooms[0].head, loaded.rooms[0].state.epoch);
            let expected = if *point == "commit.after" { (1, 1, 1) } else { (0, 0, 0) };
            assert_eq!(seen, expected, "{point}");
        }
    }
}

#[test]
fn the_write_ahead_log_has_its_room_from_the_start_and_a_cut_of_power_loses_nothing() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = dir.path().join("server.db-wal");
    let mut store = ServerStore::open(dir.path()).unwrap();
    let len = log.metadata().unwrap().len();
    store.apply(&[Write::NewRoom(Box::new(room()))]).unwrap();
    // Several times what fits in before it is merged.
    for seq in 1..=200 {
        store.apply(&[row(seq, RowKind::Message, &[7; 40_000])]).unwrap();
        if seq % 67 == 0 {
            for file in ["server.db", "server.db-wal"] {
                fs::copy(dir.path().join(file), other.path().join(file)).unwrap();
            }
            let found = ServerStore::open(other.path()).unwrap().load().unwrap();
            assert_eq!(found.rooms.first().map(|room| room.head), Some(seq));
        }
    }
    assert!(len >= 4 << 20 && log.metadata().unwrap().len() == len);
}
