//! A cluster key keeps strangers out (P10), in both directions.

use crate::cluster::{Cluster, Seat, random_file};
use crate::network::{Lan, wait_until};
use crate::process::s;
use crate::runner::Verdict;
use std::collections::BTreeSet;

const OURS: &str = "seven quiet houses by the river";
const THEIRS: &str = "another village altogether";

/// A command that may not see the cluster is told so, with a hint; nothing leaks.
#[track_caller]
fn is_kept_out(stranger: &Seat) {
    for command in ["ls", "status"] {
        let output = stranger.run(&[command, "--timeout", "2s", "--json"]);
        assert!(matches!(output.code, 3 | 6), "no proxy found (3) or not allowed (6): {output}");
        let error = output.json().unwrap_or_else(|error| panic!("{error}"))["error"].clone();
        for part in ["code", "message", "hint"] {
            assert!(error[part].as_str().is_some_and(|text| !text.is_empty()), "{part} in {output}");
        }
        assert!(!output.stdout.contains("secret-plans"), "a file name has leaked: {output}");
    }
}

/// An open cluster and a node with a key live side by side.
pub fn another_key_sees_nothing() -> Verdict {
    let lan = Lan::new(5);
    let cluster = Cluster::start_keyed(&lan, 1..=3, &[], Some(OURS));
    let ours = lan.host(5).client().key(Some(OURS));
    let file = lan.host(5).folder.join("secret-plans");
    random_file(&file, 100_000, 1);
    ours.put(&file, 2);
    assert!(cluster.settle(s(5)).is_secured, "a key is set");

    is_kept_out(&lan.host(4).client().key(Some(THEIRS)));
    let stranger = lan.host(4).client().key(Some(THEIRS)).node(&[]).ready();
    let alone = wait_until(s(6), "the stranger leads a cluster of its own", || stranger.seat.status());
    assert_eq!(alone.up(), BTreeSet::from(["h4".to_owned()]));
    assert!(stranger.seat.ls().expect("an empty list").is_empty());

    // And we do not see it, now that both have had time to meet.
    let status = cluster.settle(s(5));
    assert_eq!(status.up(), cluster.names());
    assert_eq!(status.state("h4"), "", "the stranger is not listed");
    ours.get_and_compare("secret-plans", &file);
    Verdict::Passed
}

/// Somebody without a key cannot even list names.
pub fn open_client_stays_out() -> Verdict {
    let lan = Lan::new(3);
    let _cluster = Cluster::start_keyed(&lan, 1..=2, &[], Some(OURS));
    let file = lan.host(1).folder.join("secret-plans");
    random_file(&file, 100_000, 2);
    lan.host(1).client().key(Some(OURS)).put(&file, 2);
    is_kept_out(&lan.host(3).client());
    let output = lan.host(3).thorp(&["get", "secret-plans", "-o", "stolen", "--timeout", "2s"]);
    assert!(matches!(output.code, 3 | 6), "{output}");
    assert!(!lan.host(3).folder.join("stolen").exists());
    Verdict::Passed
}
