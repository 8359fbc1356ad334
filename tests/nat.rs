//! Files between people behind routers, by `tests/nat/run.py` and `tests/nat/mapping.py`, and over long links, by `tests/wan/run.py`. Needs root, Python and the emulator that SECCHAT_WAN names; says so
//! and passes where they are missing. A short form of each row is run here; the script alone does the whole table.

use std::process::Command;

fn script(more: &[&str]) {
    run(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/nat/run.py"), more);
}

fn run(path: &str, more: &[&str]) {
    let command =
        Command::new("python3").arg(path).args(["--secchat", env!("CARGO_BIN_EXE_secchat")]).args(more).output();
    let Ok(out) = command else {
        eprintln!("skipped: there is no python3");
        return;
    };
    let (told, wrong) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    eprintln!("{told}");
    assert!(out.status.success(), "{told}\n{wrong}");
}

#[test]
fn files_go_directly_through_routers_that_can_be_punched() {
    script(&["--tries", "2", "--pairs", "cone/cone,full-cone/full-cone,none/symmetric"]);
}

#[test]
fn files_come_over_the_server_where_routers_or_a_network_without_udp_allow_nothing_else() {
    script(&["--tries", "2", "--pairs", "symmetric/cone,no-udp/cone,none/no-udp"]);
}

#[test]
fn a_transfer_outlives_another_address_a_sleep_and_a_cut_link() {
    script(&["--trouble", "moved", "--pairs", "cone/cone"]);
    script(&["--trouble", "slept", "--pairs", "cone/cone"]);
    script(&["--trouble", "cut", "--pairs", "symmetric/symmetric,no-udp/no-udp"]);
}

#[test]
fn a_full_relay_leaves_the_chat_and_the_servers_memory_alone() {
    script(&["--short", "--rows", "relay,chat,ipv6"]);
}

#[test]
fn a_transfer_goes_on_over_a_relay_while_there_is_no_direct_way_and_directly_when_there_is() {
    script(&["--trouble", "opens", "--pairs", "cone/cone"]);
    script(&["--trouble", "closes", "--pairs", "cone/cone"]);
}

#[test]
fn two_who_both_have_another_address_find_each_other_again() {
    script(&["--trouble", "both-moved", "--pairs", "cone/cone", "--holder=--direct-only", "--asker=--direct-only"]);
}

#[test]
fn routers_that_open_ports_on_demand_make_hopeless_pairs_direct() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/nat/mapping.py");
    run(path, &["--tries", "2"]);
}

#[test]
fn the_doctor_and_a_foreign_stun_client_see_each_kind_of_router() {
    script(&["--doctor"]);
}

#[test]
fn files_come_whole_over_links_that_are_long_lossy_or_dark() {
    run(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wan/run.py"), &["--short"]);
}
