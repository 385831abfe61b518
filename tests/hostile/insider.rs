//! A member with a valid identity that lies. A member may change and remove files, by design:
//! what is asked here is that nothing crashes, grows without bound, or stays broken.

use crate::attacker::{Insider, ask, attack, digests_heard, lineage_of, ms, tell};
use crate::node::{Lan, is_well, noise, pause, s, victim, wait_until};
use thorp::clock::{self, Rng};
use thorp::limits::SYNC_BUCKETS;
use thorp::transfer::manifest::{chunk_hash, content_of_one};
use thorp::types::{
    Body, ChunkRef, ContentId, DiskId, Dot, FileName, InstanceId, MachineId, NodeId, NodeRoute, Pin,
    Presence, Term, Version, Wanted,
};
use thorp::wire::message::{
    Context, Delta, ErrorCode, Message, NewFile, PullState, Purpose, Reply, Request, Selector,
};

fn name(text: &str) -> FileName {
    FileName::parse(text).expect("a name")
}

fn version(dot: Dot, replicas: u8) -> Version {
    let body = Body::File { content: ContentId([7; 32]), size: 7 };
    Version { dot, body, mode: 0o644, modified_ns: 0, wanted: Wanted::new(replicas), removed_s: 0 }
}

fn delta(context: Vec<Dot>, names: Vec<(FileName, Vec<Version>)>) -> Message {
    Message::Delta { term: Term::default(), delta: Delta { context, names }, ack: None, contents: Vec::new() }
}

fn content(rng: &mut Rng) -> ContentId {
    let mut id = [0; 32];
    rng.fill(&mut id);
    ContentId(id)
}

fn dot(instance: u64, counter: u64) -> Dot {
    Dot { instance: InstanceId(instance), counter }
}

/// The cluster's term and the content ids in it.
async fn look(insider: &Insider, node: &crate::node::Node) -> (Term, Vec<(ContentId, Dot)>) {
    let (mut reader, mut writer) = insider.dial(node, Purpose::Command).await.split();
    let Some(Reply::Status(status)) = ask(&mut reader, &mut writer, &Request::Status).await else {
        panic!("no status");
    };
    let list = Request::List { selector: Selector::Prefix("".into()), after: None };
    let Some(Reply::Rows { rows, .. }) = ask(&mut reader, &mut writer, &list).await else {
        panic!("no rows");
    };
    let contents = rows.iter().filter_map(|row| Some((row.body.content()?.0, row.dot)));
    (status.term, contents.collect())
}

/// Changes with dots of others, of nobody, reused, twice, zero, and at the end of all counters.
#[test]
fn dots_that_lie_do_not_break_the_catalog() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    attack(async {
        let (_, known) = look(&insider, &node).await;
        let of_the_node = known.first().expect("a file").1;
        let mut writer = insider.join(&node).await;
        let messages = vec![
            // A dot that the node has minted, on another name, with another content.
            delta(vec![], vec![(name("lie/reused"), vec![version(of_the_node, 1)])]),
            // Dots that the node will mint next.
            delta(
                vec![],
                (1..50)
                    .map(|ahead| {
                        let dot = Dot { counter: of_the_node.counter + ahead, ..of_the_node };
                        (name(&format!("lie/ahead-{ahead}")), vec![version(dot, 1)])
                    })
                    .collect(),
            ),
            delta(vec![dot(1, 0), dot(2, u64::MAX), dot(3, u64::MAX - 1)], vec![]),
            delta(vec![], vec![(name("lie/zero"), vec![version(dot(1, 0), 1)])]),
            delta(vec![], vec![(name("lie/twice"), vec![version(dot(5, 1), 1), version(dot(5, 1), 2)])]),
            delta(vec![], vec![(name("lie/last"), vec![version(dot(6, u64::MAX), 1)]); 3]),
        ];
        assert!(tell(&mut writer, messages).await);
        pause(ms(300));
    });
    is_well(&lan, &mut node, &good);
    node.kill();
    let mut again = lan.node("victim");
    is_well(&lan, &mut again, &good);
}

/// Counts of copies that no command could ask for.
#[test]
fn impossible_counts_are_refused() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    attack(async {
        for (number, replicas) in [0, 65, 255].into_iter().enumerate() {
            let mut writer = insider.join_as(&node, insider.presence(number as u64 + 1)).await;
            let file = name(&format!("count-{replicas}"));
            let lie = version(dot(77, number as u64 + 1), replicas);
            let mut later = version(dot(78, number as u64 + 1), 1);
            later.wanted.later = Some(Box::new(vec![(dot(79, number as u64 + 1), replicas)]));
            tell(&mut writer, [delta(vec![], vec![(file, vec![lie])])]).await;
            let mut writer = insider.join_as(&node, insider.presence(number as u64 + 10)).await;
            tell(&mut writer, [delta(vec![], vec![(name("later"), vec![later])])]).await;
        }
        let (mut reader, mut writer) = insider.dial(&node, Purpose::Command).await.split();
        for replicas in [0, 65, 255] {
            let file = NewFile {
                name: name("count"),
                body: Body::Folder,
                mode: 0,
                modified_ns: 0,
                replicas,
                holders: vec![],
            };
            let open = Request::PutOpen { names: vec![name("x")], bytes: 1, replicas, exclude: vec![] };
            let set = Request::SetReplicas { name: name("good/small.txt"), replicas };
            for request in [Request::Commit { files: vec![file] }, open, set] {
                let reply = ask(&mut reader, &mut writer, &request).await;
                assert!(matches!(&reply, Some(Reply::Failed { code: ErrorCode::Invalid, .. })), "{reply:?}");
            }
        }
        let list = Request::List { selector: Selector::Prefix("".into()), after: None };
        let Some(Reply::Rows { rows, .. }) = ask(&mut reader, &mut writer, &list).await else {
            panic!("no rows");
        };
        for row in rows {
            assert!((1..=64).contains(&row.wanted), "{} wants {} copies", row.name, row.wanted);
        }
    });
    is_well(&lan, &mut node, &good);
}

/// A causal context is kept for ever and sent with each exchange, so nobody may fill it: neither
/// with dots beyond a gap nor with runs that never were. The node must start again after it.
#[test]
fn contexts_of_a_million_dots_are_not_taken() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    let mut rng = Rng::seeded(4);
    attack(async {
        let mut writer = insider.join(&node).await;
        for round in 0..8_u64 {
            let gaps = (0..40_000).map(|at| dot(1_000, 10 + 2 * (round * 40_000 + at))).collect();
            let runs = (0..40_000).map(|_| dot(rng.next_u64(), 1)).collect();
            if !tell(&mut writer, [delta(gaps, vec![]), delta(runs, vec![])]).await {
                break;
            }
        }
        let (session, page) = (1, 0);
        let context =
            Context { prefixes: vec![], extra: (0..60_000).map(|at| dot(1, 10 + 2 * at)).collect() };
        let pages = vec![Message::SyncPage {
            session,
            page,
            context: Some(context),
            buckets: vec![],
            names: vec![],
            last: true,
        }];
        tell(&mut writer, pages).await;
    });
    is_well(&lan, &mut node, &good);
    node.kill();
    let mut again = lan.node("victim");
    is_well(&lan, &mut again, &good);
    // Another machine still gets the catalog.
    let mut other = lan.node("other");
    wait_until(s(15), "both have the same catalog", || {
        let digests = attack(digests_heard(&insider, &lan));
        let (one, two) = (digests.get(&again.id), digests.get(&other.id));
        if one.is_some() && one == two { Ok(()) } else { Err(format!("{one:?} and {two:?}")) }
    });
    again.kill();
    wait_until(s(15), "the other machine leads and lists what there was", || {
        let ended = lan.run(&["ls", "--json", "--timeout", "3s"]);
        if ended.code == 0 && ended.stdout.contains("good/small.txt") { Ok(()) } else { Err(ended.stderr) }
    });
    other.is_alive();
}

/// A name with versions without end would fit no frame and no record any more.
#[test]
fn versions_of_one_name_are_bounded() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    let mut rng = Rng::seeded(5);
    attack(async {
        let mut writer = insider.join(&node).await;
        for _ in 0..8 {
            let versions = (0..4_000).map(|_| version(dot(rng.next_u64(), 1), 1)).collect();
            if !tell(&mut writer, [delta(vec![], vec![(name("many"), versions)])]).await {
                break;
            }
        }
        pause(ms(500));
    });
    is_well(&lan, &mut node, &good);
    node.kill();
    let mut again = lan.node("victim");
    is_well(&lan, &mut again, &good);
}

#[test]
fn exchanges_out_of_order_are_dropped() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    let page = |page, context: Option<Context>, buckets, names, last| Message::SyncPage {
        session: 1,
        page,
        context,
        buckets,
        names,
        last,
    };
    let unsorted = Context { prefixes: vec![(InstanceId(2), 1), (InstanceId(1), 1)], extra: vec![] };
    let twice = Context { prefixes: vec![], extra: vec![dot(1, 5), dot(1, 5)] };
    let entry = |text: &str, counter| (name(text), vec![version(dot(9, counter), 1)]);
    let all: Vec<u16> = (0..SYNC_BUCKETS as u16).collect();
    let empty = || Some(Context::default());
    attack(async {
        let mut writer = insider.join(&node).await;
        let messages = vec![
            page(5, None, vec![], vec![], true),
            page(0, None, vec![], vec![], true),
            page(0, Some(unsorted), vec![], vec![], true),
            page(0, Some(twice), vec![], vec![], true),
            page(0, empty(), vec![u16::MAX], vec![], false),
            page(0, empty(), all.clone(), vec![entry("b", 1), entry("a", 2)], false),
            page(0, empty(), all.clone(), vec![entry("a", 3), entry("a", 4)], true),
            page(0, empty(), vec![], vec![entry("foreign", 5)], true),
            page(0, empty(), all.clone(), vec![(name("none"), vec![])], true),
            page(0, empty(), all.clone(), vec![entry("x", 6)], false),
            page(2, None, vec![], vec![entry("y", 7)], false),
            page(u32::MAX, None, vec![], vec![entry("z", 8)], true),
            Message::SyncAsk { session: 1, context: Context::default(), buckets: vec![] },
            Message::SyncAsk { session: 2, context: Context::default(), buckets: vec![1; SYNC_BUCKETS + 1] },
            Message::DeltaStored { ack: 1, held: vec![ContentId([1; 32]); 1_000] },
        ];
        assert!(tell(&mut writer, messages).await);
        // Asking over and over, and never taking the answer.
        let asks = (0..2_000).map(|session| Message::SyncAsk {
            session,
            context: Context::default(),
            buckets: vec![session; SYNC_BUCKETS],
        });
        tell(&mut writer, asks).await;
    });
    is_well(&lan, &mut node, &good);
}

/// Contents that nobody has, reported in any order: the map of holders must not grow without end.
#[test]
fn inventories_of_what_was_never_held_are_bounded() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    let mut rng = Rng::seeded(6);
    let before = node.memory_kib();
    attack(async {
        let (term, known) = look(&insider, &node).await;
        let mut writer = insider.join(&node).await;
        let disk = DiskId::default();
        let held = |rng: &mut Rng, count: usize| (0..count).map(|_| content(rng)).collect::<Vec<_>>();
        let inventory = |page, contents, last| Message::Inventory { term, disk, page, contents, last };
        let mut messages = vec![
            inventory(3, held(&mut rng, 10), true),
            inventory(0, held(&mut rng, 10), false),
            inventory(2, held(&mut rng, 10), true),
            inventory(0, known.iter().map(|(content, _)| *content).collect(), true),
            inventory(u32::MAX, vec![], true),
        ];
        for _ in 0..40 {
            let added = held(&mut rng, 25_000);
            messages.push(Message::InventoryChange { term, disk, added, removed: vec![] });
        }
        messages.push(Message::InventoryChange {
            term: Term { number: u64::MAX, proxy: NodeId([0xff; 16]) },
            disk,
            added: held(&mut rng, 1_000),
            removed: held(&mut rng, 1_000),
        });
        tell(&mut writer, messages).await;
        pause(s(1));
    });
    let grown = node.memory_kib().saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB more for contents that nobody has");
    is_well(&lan, &mut node, &good);
}

/// Orders from somebody who does not lead, and answers to questions that were never asked.
#[test]
fn orders_of_who_does_not_lead_are_ignored() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    attack(async {
        let (term, known) = look(&insider, &node).await;
        let mut writer = insider.join(&node).await;
        let mut messages = Vec::new();
        for term in [term, Term { number: term.number + 1, proxy: insider.id() }, Term::default()] {
            for (content, _) in &known {
                let content = *content;
                let keepers = vec![insider.id()];
                messages.push(Message::DropOrder { term, content, wanted: 1, keepers });
                messages.push(Message::DropOrder { term, content, wanted: 0, keepers: vec![] });
                messages.push(Message::KeepAnswer { content, nonce: 1, kept: true });
                messages.push(Message::KeepRelease { content, nonce: 1 });
                messages.push(Message::DropRefused { term, content });
                messages.push(Message::InventoryAsk { term });
                messages.push(Message::PullOrder { term, content, size: u64::MAX, from: vec![] });
                for state in [PullState::Working, PullState::Failed] {
                    messages.push(Message::PullState { term, content, state });
                }
            }
        }
        assert!(tell(&mut writer, messages).await);
        pause(s(1));
    });
    is_well(&lan, &mut node, &good);
}

/// Questions whose answers cost: a check of the disk and a promise each.
#[test]
fn promises_are_bounded() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    let before = node.memory_kib();
    attack(async {
        let (_, known) = look(&insider, &node).await;
        let mut writer = insider.join(&node).await;
        for round in 0..60_u64 {
            let asks = (0..2_000).map(|nonce| Message::KeepAsk {
                content: known[nonce as usize % known.len()].0,
                nonce: round * 2_000 + nonce,
            });
            tell(&mut writer, asks).await;
        }
    });
    is_well(&lan, &mut node, &good);
    let grown = node.memory_kib().saturating_sub(before);
    assert!(grown < 24 << 10, "{grown} KiB more for promises");
}

/// Ways to nodes that do not exist: whoever is told of them must not dial them all at once.
#[test]
fn gossip_causes_no_storm() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    let mut rng = Rng::seeded(7);
    let mut peak = 0;
    attack(async {
        let mut writer = insider.join(&node).await;
        for _ in 0..5 {
            let routes = (0..2_000)
                .map(|_| {
                    let (mut id, at) = ([0; 16], rng.next_u64());
                    rng.fill(&mut id);
                    // Addresses for documentation: they answer nowhere.
                    let ip = [[192, 0, 2], [198, 51, 100], [203, 0, 113]][at as usize % 3];
                    NodeRoute {
                        node: NodeId(id),
                        name: "x".into(),
                        machine: MachineId::parse("x").expect("a label"),
                        addresses: (0..4)
                            .map(|n| ([ip[0], ip[1], ip[2], n], (at >> 8) as u16 | 1).into())
                            .collect(),
                    }
                })
                .collect();
            tell(&mut writer, [Message::Gossip { routes }]).await;
            tokio::time::sleep(ms(200)).await;
            peak = peak.max(node.descriptors());
        }
    });
    assert!(peak < 300, "{peak} descriptors while it was told of nodes");
    is_well(&lan, &mut node, &good);
}

/// A leader that orders copies of what nobody has from where nobody is.
#[test]
fn a_false_leader_cannot_have_it_dial_without_end() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    let mut rng = Rng::seeded(8);
    let mut peak = 0;
    attack(async {
        let (term, _) = look(&insider, &node).await;
        let term = Term { number: term.number + 1, proxy: insider.id() };
        let leads = |sequence| Presence {
            pin: Pin::Proxy,
            term,
            proxy: Some(insider.id()),
            ..insider.presence(sequence)
        };
        let mut writer = insider.join_as(&node, leads(1)).await;
        tokio::time::sleep(ms(500)).await;
        for round in 0..5 {
            tell(&mut writer, [Message::Announce(Box::new(leads(2 + round)))]).await;
            let orders: Vec<Message> = (0..600)
                .map(|_| {
                    let route = NodeRoute {
                        node: NodeId([3; 16]),
                        name: "x".into(),
                        machine: MachineId::parse("x").expect("a label"),
                        addresses: (0..32).map(|n| ([192, 0, 2, n], 7667).into()).collect(),
                    };
                    Message::PullOrder { term, content: content(&mut rng), size: 1 << 40, from: vec![route] }
                })
                .collect();
            tell(&mut writer, orders).await;
            tokio::time::sleep(ms(300)).await;
            peak = peak.max(node.descriptors());
        }
        tell(&mut writer, [Message::Goodbye]).await;
    });
    assert!(peak < 2_500, "{peak} descriptors while it was ordered to pull");
    wait_until(s(8), "it leads again", || {
        let ended = lan.run(&["status", "--json", "--timeout", "2s"]);
        if ended.code == 0 { Ok(()) } else { Err(ended.stderr) }
    });
    is_well(&lan, &mut node, &good);
}

/// A commit that names holders which do not hold is not acknowledged with them.
#[test]
fn holders_that_do_not_hold_are_not_counted() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    attack(async {
        let _member = insider.join(&node).await;
        let (mut reader, mut writer) = insider.dial(&node, Purpose::Command).await.split();
        let bytes = noise(9, 1_000);
        let never = content_of_one(ChunkRef { hash: chunk_hash(&bytes), bytes: 1_000 });
        let (_, known) = look(&insider, &node).await;
        let file = |text: &str, content, holders| NewFile {
            name: name(text),
            body: Body::File { content, size: 1_000 },
            mode: 0o644,
            modified_ns: 0,
            replicas: 2,
            holders,
        };
        let lies = vec![insider.id(), node.id, NodeId([1; 16])];
        let commit = Request::Commit { files: vec![file("never", never, lies.clone())] };
        match ask(&mut reader, &mut writer, &commit).await {
            Some(Reply::Failed { .. }) => {}
            other => panic!("acknowledged what nobody holds: {other:?}"),
        }
        let commit = Request::Commit { files: vec![file("held", known[0].0, lies)] };
        match ask(&mut reader, &mut writer, &commit).await {
            Some(Reply::Committed { holders, .. }) => assert_eq!(holders, vec![vec![node.id]]),
            other => panic!("{other:?}"),
        }
    });
    is_well(&lan, &mut node, &good);
}

/// Requests near the largest frame, and odd ones.
#[test]
fn large_and_odd_requests_are_answered() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    attack(async {
        let long: Vec<FileName> =
            (0..900).map(|n| name(&format!("{n:04}/{}", ["x".repeat(200).as_str(); 5].join("/")))).collect();
        let short: Vec<FileName> = (0..60_000).map(|n| name(&format!("{n}"))).collect();
        let nobody = vec![NodeId([4; 16]); 60_000];
        let mut requests = Vec::new();
        for names in [long, short, vec![], vec![name("good/small.txt/x")], vec![name("none"); 1_000]] {
            let open = Request::PutOpen {
                names: names.clone(),
                bytes: u64::MAX,
                replicas: 64,
                exclude: nobody.clone(),
            };
            requests.push(open);
            requests.push(Request::PutOpen { names: names.clone(), bytes: 0, replicas: 1, exclude: vec![] });
            let gone =
                names.into_iter().filter(|name| !name.as_str().starts_with("good")).collect::<Vec<_>>();
            if !gone.is_empty() {
                requests.push(Request::Remove { names: gone, now: false });
            }
        }
        requests.push(Request::Commit { files: vec![] });
        for prefix in ["/", "//", "../..", "\0", "\u{1b}", "good/", "good//", "*", "\u{10ffff}", " ", "."] {
            requests.push(Request::List { selector: Selector::Prefix(prefix.into()), after: None });
            requests
                .push(Request::List { selector: Selector::Under(prefix.into()), after: Some(name("zzz")) });
        }
        requests.push(Request::List { selector: Selector::Prefix("x".repeat(900_000).into()), after: None });
        for holders in [vec![], vec![insider.id(); 60_000]] {
            requests.push(Request::Extend {
                content: ContentId([1; 32]),
                size: u64::MAX,
                holders,
                replicas: 255,
                exclude: vec![],
            });
        }
        for request in requests {
            let (mut reader, mut writer) = insider.dial(&node, Purpose::Command).await.split();
            let started = clock::now();
            // Whatever is said, or the connection closed for a frame beyond the limits.
            drop(ask(&mut reader, &mut writer, &request).await);
            let took = clock::now().since(started);
            assert!(took < 5_000, "{took} ms for a request");
        }
    });
    is_well(&lan, &mut node, &good);
}

/// Members that send as fast as they can, so that the node's own reports find no room.
#[test]
fn a_flood_of_messages_does_not_lose_what_the_node_tells_itself() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let lineage = lineage_of(&lan, &node);
    attack(async {
        let mut floods = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let insider = Insider::new(&lan, lineage);
            let mut writer = insider.join(&node).await;
            floods.spawn(async move {
                let context =
                    Context { prefixes: (1..20_000).map(|n| (InstanceId(n), 1)).collect(), extra: vec![] };
                loop {
                    let messages = (0..16).map(|session| Message::SyncAsk {
                        session,
                        context: context.clone(),
                        buckets: vec![1; SYNC_BUCKETS],
                    });
                    if !tell(&mut writer, messages).await {
                        return;
                    }
                }
            });
        }
        tokio::time::sleep(s(2)).await;
        for round in 0..5_u64 {
            let during = noise(round, 1_000);
            let file = format!("during-{round}");
            let path = lan.work().join(&file);
            std::fs::write(&path, &during).expect("written");
            let mut put = tokio::process::Command::new(env!("CARGO_BIN_EXE_thorp"));
            put.env_clear().env("HOME", lan.work()).env("THORP_CLUSTER", &lan.cluster);
            put.env("THORP_BIND", "127.0.0.1").env("THORP_PORT", lan.port.to_string());
            put.env("THORP_DATA_DIR", lan.work().join("none")).env("THORP_TIMEOUT", "8s");
            put.arg("put").arg(&path).args(["--as", &file, "-n", "1", "-q"]);
            let ended = put.output().await.expect("started");
            assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        }
        floods.abort_all();
    });
    is_well(&lan, &mut node, &good);
    assert!(!node.log().contains("a report was lost"), "{}", node.log());
}

/// By design a member may remove what others put; it takes a change that says so for each name.
#[test]
fn a_member_may_remove_files_and_the_node_stays_well() {
    let lan = Lan::open();
    let (mut node, _) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    attack(async {
        let (_, known) = look(&insider, &node).await;
        let mut writer = insider.join(&node).await;
        let dots = known.iter().map(|(_, dot)| *dot).collect();
        let names = vec![(name("good/small.txt"), vec![]), (name("good/large.bin"), vec![])];
        assert!(tell(&mut writer, [delta(dots, names)]).await);
    });
    wait_until(s(3), "they are gone", || {
        let rows = lan.ok(&["ls", "--json"]).stdout;
        if rows.contains("good/") { Err(rows) } else { Ok(()) }
    });
    is_well(&lan, &mut node, &[]);
}
