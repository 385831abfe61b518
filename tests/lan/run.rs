//! Programs on another machine, while the network between breaks.

use crate::cluster::Cluster;
use crate::network::{Lan, wait_until};
use crate::process::s;
use crate::runner::Verdict;
use thorp::clock;

const KEY: &str = "seven quiet houses by the river";
/// How long the cable is out: less than silence and linger together, more than TCP's own patience with a peer.
const OUT_MS: u64 = 20_000;

/// The cable is out for 20 s: the program goes on, the command comes back to it, no byte is lost or doubled.
pub fn cable_out() -> Verdict {
    let lan = Lan::new(3);
    let cluster = Cluster::start_keyed(&lan, 1..=3, &["--allow-run"], Some(KEY));
    cluster.settle(s(10));
    let client = lan.host(1).client().key(Some(KEY));
    let count = 600; // 30 s of them
    let text = format!(
        "i=0; while [ $i -lt {count} ]; do i=$((i+1)); echo $i; echo e$i >&2; sleep 0.05; done; exit 9"
    );
    let mut running = client.start(&["run", "--on", "h2", "--", "sh", "-c", &text]);
    wait_until(s(15), "it runs", || {
        if running.stdout().lines().count() > 20 { Ok(()) } else { Err(running.stderr()) }
    });
    lan.unplug(2);
    let cut = clock::now();
    wait_until(s(15), "the command says that it is lost", || {
        if running.stderr().contains("is lost") { Ok(()) } else { Err(running.stderr()) }
    });
    wait_until(s(30), "the cable is out long enough", || {
        if clock::now().since(cut) >= OUT_MS { Ok(()) } else { Err("not yet".into()) }
    });
    lan.plug(2);
    let ended = running.wait(s(60));
    assert_eq!(ended.code, 9, "{ended}");
    let numbers: Vec<String> = ended.stdout.lines().map(str::to_owned).collect();
    let wanted: Vec<String> = (1..=count).map(|number| number.to_string()).collect();
    assert!(numbers == wanted, "{} lines came of {count}", numbers.len());
    let errors =
        ended.stderr.lines().filter(|line| line.starts_with('e') && !line.starts_with("error")).count();
    assert_eq!(errors, count, "{ended}");
    Verdict::Passed
}
