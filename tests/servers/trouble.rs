//! Messages while servers on the way are killed, started again, frozen and thawed.

use crate::harness::secchat;
use serde_json::Value;
use tempfile::tempdir;

#[test]
fn nothing_is_lost_repeated_or_out_of_order_while_servers_on_the_way_fall_over() {
    let home = tempdir().unwrap();
    let trouble = ["bench", "mesh", "--trouble", "--messages", "2000", "--rate", "142", "--json"];
    let output = secchat(home.path()).args(trouble).output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let counts = ["arrived", "lost", "repeated", "disordered"].map(|count| told[count].as_u64().unwrap());
    assert_eq!(counts, [2000, 0, 0, 0], "{told}");
    let steps: Vec<&str> = told["steps"].as_array().unwrap().iter().map(|s| s["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["killed", "started again", "frozen", "thawed"]);
    assert!(told["steps"].as_array().unwrap().iter().all(|step| step["presence_s"].is_f64()), "{told}");
}
