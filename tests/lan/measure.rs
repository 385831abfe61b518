//! Figures for `docs/TESTED.md`: how long a takeover and a healed split take. They run only when
//! asked for with `--ignored`; `THORP_TAKEOVERS` and `THORP_SPLIT_SECONDS` set how much.

use crate::cluster::{Cluster, random_file, text};
use crate::network::{Lan, can_cut, wait_until};
use crate::process::{poll, s};
use crate::runner::{self, Verdict};
use std::collections::BTreeSet;
use std::time::Duration;
use thorp::clock;

/// A number that the environment may set.
pub fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// From the kill of the proxy to the end of the next put that succeeds.
pub fn takeover() -> Verdict {
    let rounds = number("THORP_TAKEOVERS", 50);
    runner::allow(s(20 * rounds));
    let lan = Lan::new(6);
    let mut cluster = Cluster::start(&lan, 1..=5, &[]);
    let client = lan.host(6).client();
    let mut times = Vec::new();
    for round in 0..rounds {
        let file = lan.host(6).folder.join(format!("file-{round}"));
        random_file(&file, 20_000, round);
        let proxy = cluster.settle(s(30)).proxy_name();
        let number = cluster.named(&proxy).number;
        cluster.kill9(&proxy);
        let dead = clock::now();
        wait_until(s(30), "a put succeeds", || {
            let said = client.run(&["put", &text(&file), "-n", "2", "--timeout", "1s"]);
            if said.code == 0 { Ok(()) } else { Err(said.to_string()) }
        });
        times.push(clock::now().since(dead));
        cluster.nodes.push(lan.host(number).up(&[]));
    }
    times.sort_unstable();
    println!(
        "  from the kill of the proxy to the next put: median {} ms, worst {} ms, of {rounds}",
        times[times.len() / 2],
        times[times.len() - 1]
    );
    println!("  all, sorted: {times:?}");
    Verdict::Passed
}

/// Both sides of a split go on writing; then they meet again.
pub fn healed_split() -> Verdict {
    if let Err(why) = can_cut() {
        return Verdict::Skipped(why);
    }
    let seconds = number("THORP_SPLIT_SECONDS", 60);
    runner::allow(s(seconds + 120));
    let lan = Lan::new(5);
    let cluster = Cluster::start(&lan, 1..=5, &["--heal-after", "5s"]);
    let sides = [vec![1, 2], vec![3, 4, 5]];
    let pairs = sides[0].iter().flat_map(|a| sides[1].iter().flat_map(|b| [(*a, *b), (*b, *a)]));
    lan.cut(&pairs.collect());
    let put = |side: usize, name: &str, seed: u64| {
        let host = lan.host(sides[side][0]);
        let file = host.folder.join("file");
        random_file(&file, 50_000, seed);
        let said = host.client().run(&["put", &text(&file), "--as", name, "-n", "3", "--timeout", "2s"]);
        said.code == 0
    };
    let start = clock::now();
    let (mut count, mut both) = (0, BTreeSet::new());
    while clock::now().since(start) < seconds * 1_000 {
        let shared = format!("shared-{}", count % 20);
        let written = [put(0, &shared, 2 * count), put(1, &shared, 2 * count + 1)];
        put(0, &format!("left-{count}"), 1_000_000 + count);
        put(1, &format!("right-{count}"), 2_000_000 + count);
        if written == [true, true] {
            both.insert(shared);
        }
        count += 1;
        let _ = poll(Duration::from_millis(200), || Err::<(), _>(String::new()));
    }
    lan.cut(&BTreeSet::new());
    let healed = clock::now();
    let ms = || clock::now().since(healed);
    cluster.settle(s(60));
    let agreed = ms();
    let client = lan.host(4).client();
    wait_until(s(60), "both versions of every name are listed", || {
        let names: Vec<String> = client.ls()?.into_iter().map(|row| row.name).collect();
        let of = |shared: &String| names.iter().filter(|name| name.split('~').next() == Some(shared)).count();
        both.iter().find(|name| of(name) != 2).map_or(Ok(()), |name| Err(format!("{name}: {}", of(name))))
    });
    let listed = ms();
    let rows = wait_until(s(90), "every file has its copies", || {
        let rows = client.ls()?;
        let short = rows.iter().find(|row| row.state != "ok" || row.nodes.len() as u64 != row.wanted);
        short.map_or(Ok(rows.len()), |row| Err(format!("{row:?}")))
    });
    println!(
        "  after {seconds} s of split with {rows} versions, {} names written on both sides: one proxy for all after \
         {agreed} ms, both versions listed after {listed} ms, all copies there after {} ms",
        both.len(),
        ms()
    );
    Verdict::Passed
}
