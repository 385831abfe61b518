//! Thousands of messages between five hosts while one is off, the proxy is killed and links are cut: each
//! reaches each inbox once, and in the order of its sender (P11).
//!
//! Every host sends to all others by files in its outbox, and is topped up as they go. At some hosts a program
//! takes messages out of the inbox as they come, so one that comes twice is seen twice; at the others they stay,
//! and the names of the files say the order. `THORP_MESSAGES_COUNT` sets how many there are in all.

use crate::cluster::Cluster;
use crate::network::{Host, Lan, can_cut, wait_until};
use crate::process::{poll, s};
use crate::runner::{self, Verdict};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use thorp::clock;

/// Hosts, each with a node that sends and receives.
const HOSTS: usize = 5;
/// Messages in all, unless `THORP_MESSAGES_COUNT` says otherwise.
const COUNT_DEFAULT: u64 = 10_000;
/// Files that lie in an outbox at a time.
const OUTBOX_FILES: usize = 100;
/// The disk of each node.
const DISK_MEBIBYTES: u64 = 1_024;
/// How often an inbox is listed to be listed twice alike.
const LISTINGS_MAX: usize = 20;
/// Hosts whose inbox is emptied as it fills.
const EMPTIED: [usize; 3] = [1, 2, 3];
/// The host that is off for most of the time.
const SLEEPER: usize = 5;

/// What a host got: the number of the sender, and which of its messages.
type Got = Vec<(usize, u64)>;

/// What is wrong with what the hosts got.
#[derive(Debug, Default, PartialEq, Eq)]
struct Findings {
    lost: usize,
    doubled: usize,
    disordered: usize,
    /// One of each kind, in words.
    examples: BTreeMap<&'static str, String>,
}

/// Compares what each host got, in the order in which it got it, with what all others have sent.
fn judge(got: &BTreeMap<usize, Got>, senders: &[usize], each: u64) -> Findings {
    let mut findings = Findings::default();
    for (host, got) in got {
        let (mut seen, mut last) = (BTreeSet::new(), BTreeMap::new());
        for (sender, n) in got {
            let example = || format!("h{host} got {n} of h{sender}");
            if !seen.insert((*sender, *n)) {
                findings.doubled += 1;
                findings.examples.entry("doubled").or_insert_with(example);
            } else if let Some(before) = last.insert(*sender, *n).filter(|last| last > n) {
                println!("  h{host} got {n} of h{sender} after {before}");
                findings.disordered += 1;
                findings.examples.entry("disordered").or_insert_with(example);
            }
        }
        let sent = senders.iter().filter(|sender| *sender != host);
        for sent in sent.flat_map(|sender| (0..each).map(|n| (*sender, n))) {
            if !seen.remove(&sent) {
                findings.lost += 1;
                findings
                    .examples
                    .entry("lost")
                    .or_insert_with(|| format!("h{host} lacks {} of h{}", sent.1, sent.0));
            }
        }
        assert!(seen.is_empty(), "h{host} got what nobody has sent: {seen:?}");
    }
    findings
}

/// A checker that finds nothing proves nothing.
pub fn checker_finds_what_is_planted() -> Verdict {
    let senders = [1, 2];
    let whole: Got = (0..10).flat_map(|n| [(1, n), (2, n)]).collect();
    let of = |got: Got| {
        let findings = judge(&BTreeMap::from([(3, got)]), &senders, 10);
        (findings.lost, findings.doubled, findings.disordered)
    };
    assert_eq!(of(whole.clone()), (0, 0, 0));
    let mut planted = whole.clone();
    planted.remove(7);
    assert_eq!(of(planted), (1, 0, 0));
    let mut planted = whole.clone();
    planted.push((1, 4));
    assert_eq!(of(planted), (0, 1, 0));
    let mut planted = whole.clone();
    planted.swap(4, 6); // 2 and 3 of sender 1
    assert_eq!(of(planted), (0, 0, 1));
    assert_eq!(of(Vec::new()), (20, 0, 0));
    // A sender is no addressee of its own.
    let own: Got = (0..10).map(|n| (2, n)).collect();
    assert_eq!(judge(&BTreeMap::from([(1, own)]), &senders, 10), Findings::default());
    Verdict::Passed
}

/// A host's folders, and what its inbox showed so far.
struct Post {
    host: usize,
    folder: PathBuf,
    sent: u64,
    got: Got,
}

impl Post {
    fn of(host: &Host) -> Post {
        let folder = host.outside(&host.folder.join("node/messages"));
        Post { host: host.number, folder, sent: 0, got: Vec::new() }
    }

    /// Puts the next messages into the outbox, where there is room for them.
    fn top_up(&mut self, each: u64) -> u64 {
        let outbox = self.folder.join("outbox");
        let there = fs::read_dir(&outbox).expect("an outbox").count();
        let room = u64::try_from(OUTBOX_FILES.saturating_sub(there)).expect("a small number");
        let upto = each.min(self.sent + room);
        for n in self.sent..upto {
            let message = json!({"type": "tick", "payload": {"from": self.host, "n": n}}).to_string();
            let (scratch, name) = (outbox.join(".next"), outbox.join(format!("{n:06}.json")));
            fs::write(&scratch, message).and_then(|()| fs::rename(&scratch, name)).expect("room for a file");
        }
        upto - std::mem::replace(&mut self.sent, upto)
    }

    /// The messages in the inbox. A folder that changes while it is listed may show a file and not the one before
    /// it, so it is listed until that says twice the same; nothing, if it never does.
    fn list(&self) -> Vec<String> {
        let list = || {
            let entries = fs::read_dir(self.folder.join("inbox")).expect("an inbox").flatten();
            let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
            names.filter(|name| name.ends_with(".json")).collect::<BTreeSet<String>>()
        };
        let mut names = list();
        for _ in 0..LISTINGS_MAX {
            let again = list();
            if names == again {
                return names.into_iter().collect();
            }
            names = again;
        }
        Vec::new()
    }

    /// Takes note of what lies in the inbox; takes it away if somebody empties it, and else forgets what it noted
    /// before.
    fn look(&mut self) {
        let inbox = self.folder.join("inbox");
        let emptied = EMPTIED.contains(&self.host);
        if !emptied {
            self.got.clear();
        }
        for name in self.list() {
            let text = fs::read(inbox.join(&name)).expect("a message");
            let document: Value = serde_json::from_slice(&text).expect("a whole document");
            let number = |key: &str| document["payload"][key].as_u64().expect("a number");
            self.got.push((usize::try_from(number("from")).expect("a host"), number("n")));
            if emptied {
                fs::remove_file(inbox.join(&name)).expect("it was there");
            }
        }
    }

    /// How many have come, without reading what stays.
    fn come(&self) -> usize {
        match EMPTIED.contains(&self.host) {
            true => self.got.len(),
            // One entry is the folder of the records of hooks.
            false => {
                fs::read_dir(self.folder.join("inbox")).map_or(0, |entries| entries.count().saturating_sub(1))
            }
        }
    }
}

/// What the load shows to whoever breaks things.
struct Load {
    each: u64,
    sent: AtomicU64,
    is_over: AtomicBool,
}

impl Load {
    /// Sends and receives until all has come, and told that nothing more will.
    fn carry(&self, mut posts: Vec<Post>) -> Vec<Post> {
        let carried = poll(s(3_600), || {
            for post in &mut posts {
                self.sent.fetch_add(post.top_up(self.each), Ordering::Relaxed);
                if EMPTIED.contains(&post.host) {
                    post.look();
                }
            }
            let wanted = usize::try_from(self.each).expect("a count") * (HOSTS - 1);
            let come: Vec<usize> = posts.iter().map(Post::come).collect();
            let all = come.iter().all(|come| *come >= wanted);
            if self.is_over.load(Ordering::Relaxed) || all { Ok(()) } else { Err(format!("{come:?}")) }
        });
        carried.expect("the guard of the run is earlier");
        posts
    }

    /// Waits until so many per cent of all messages were put into outboxes.
    #[track_caller]
    fn wait_for(&self, percent: u64) {
        let wanted = self.each * HOSTS as u64 * percent / 100;
        wait_until(s(300), &format!("{percent} % are under way"), || {
            let sent = self.sent.load(Ordering::Relaxed);
            if sent >= wanted { Ok(()) } else { Err(format!("{sent} of {wanted}")) }
        });
    }
}

/// Ends the load however the faults end.
struct EndAtDrop<'a>(&'a Load);

impl Drop for EndAtDrop<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.is_over.store(true, Ordering::Relaxed);
        }
    }
}

/// Kills whoever leads; gives the number of its host.
#[track_caller]
fn kill_proxy(cluster: &mut Cluster) -> usize {
    let proxy = wait_until(s(20), "one that runs leads", || {
        let proxy = cluster.nodes[0].seat.status()?.proxy_name();
        if cluster.names().contains(&proxy) { Ok(proxy) } else { Err(proxy) }
    });
    let number = cluster.named(&proxy).number;
    println!("  {proxy} leads and is killed");
    cluster.kill9(&proxy);
    number
}

/// The faults, each when another part of the messages is under way.
fn break_things(lan: &Lan, cluster: &mut Cluster, load: &Load) {
    load.wait_for(10);
    cluster.kill9(&format!("h{SLEEPER}"));
    load.wait_for(25);
    let first = kill_proxy(cluster);
    load.wait_for(35);
    cluster.nodes.push(lan.host(first).up(&[]));
    load.wait_for(45);

    // Nobody hears one host; two others do not hear each other.
    let hosts: Vec<usize> = cluster.nodes.iter().map(|node| node.number).collect();
    let [alone, one, other, witness] = hosts.as_slice() else { panic!("{hosts:?}") };
    if can_cut().is_ok() {
        lan.cut(&BTreeSet::from([(*one, *other), (*other, *one)]));
    }
    lan.unplug(*alone);
    let seat = &cluster.nodes.iter().find(|node| node.number == *witness).expect("it runs").seat;
    wait_until(s(20), "the unplugged host is missed", || {
        let status = seat.status()?;
        if status.state(&format!("h{alone}")) == "up" { Err(format!("{status:?}")) } else { Ok(()) }
    });
    load.wait_for(60);
    lan.plug(*alone);
    if can_cut().is_ok() {
        lan.cut(&BTreeSet::new());
    }
    load.wait_for(65);
    cluster.nodes.push(lan.host(SLEEPER).up(&[]));
    load.wait_for(80);
    let second = kill_proxy(cluster);
    cluster.nodes.push(lan.host(second).up(&[]));
}

/// Each message once in each inbox, and in order, after all that.
pub fn many_messages() -> Verdict {
    let given = std::env::var("THORP_MESSAGES_COUNT").ok();
    let count = given.map_or(COUNT_DEFAULT, |text| text.parse().expect("THORP_MESSAGES_COUNT is a number"));
    let each = count.div_ceil(HOSTS as u64);
    runner::allow(s(count / 20));
    let lan = Lan::new(HOSTS);
    // In memory: to remove tens of thousands of files takes longer than to send them.
    lan.hosts().iter().for_each(|host| host.mount_disk(&host.folder.join("node"), DISK_MEBIBYTES));
    let mut cluster = Cluster::start(&lan, 1..=HOSTS, &[]);
    let posts: Vec<Post> = lan.hosts().iter().map(Post::of).collect();
    let load = Load { each, sent: AtomicU64::new(0), is_over: AtomicBool::new(false) };
    let start = clock::now();
    let mut posts = std::thread::scope(|scope| {
        let _end = EndAtDrop(&load);
        let carried = scope.spawn(|| load.carry(posts));
        break_things(&lan, &mut cluster, &load);
        println!("  all faults are over after {} ms", clock::now().since(start));
        // What is still missing comes now, or never.
        let done =
            poll(s(60 + count / 50), || if carried.is_finished() { Ok(()) } else { Err(String::new()) });
        load.is_over.store(done.is_err(), Ordering::Relaxed);
        carried.join().expect("the load")
    });
    let took = clock::now().since(start);
    // What comes twice may come late: until nobody has anything left to deliver.
    let waiting = poll(s(20), || {
        let value = cluster.nodes[0].seat.run(&["status", "--json"]).json()?;
        if value["messages"]["waiting"] == 0 { Ok(()) } else { Err(value["messages"].to_string()) }
    });
    posts.iter_mut().for_each(Post::look);
    println!("  looked at everything after {} ms", clock::now().since(start));
    let got: BTreeMap<usize, Got> = posts.into_iter().map(|post| (post.host, post.got)).collect();
    let findings = judge(&got, &[1, 2, 3, 4, 5], each);
    let Findings { lost, doubled, disordered, examples } = &findings;
    println!(
        "  messages {} lost {lost} doubled {doubled} disordered {disordered} in {took} ms, {} deliveries/s",
        each * HOSTS as u64,
        got.values().map(Vec::len).sum::<usize>() as u64 * 1_000 / took.max(1)
    );
    assert_eq!((*lost, *doubled, *disordered), (0, 0, 0), "{examples:?}");
    waiting.expect("nothing waits when all was delivered");
    Verdict::Passed
}
