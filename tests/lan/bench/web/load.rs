//! What this binary plays on the host of the clients: a hundred of them as threads of one process,
//! with blocking connections that are kept.
//!
//! Each part prints one line of figures, `name=value` with spaces between, which [`Figures`] reads.

use super::http::{End, Events, Http, Socket};
use super::mqtt::{Mqtt, Packet};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;
use thorp::clock;

/// Bytes of what a client posts.
const BODY_BYTES: usize = 200;
/// Posts a second of the one that is followed.
const POSTS_A_SECOND: u64 = 10;
/// Between two looks of a follower that polls: 20 a second.
const POLL_US: u64 = 50_000;
/// What has not come so many microseconds after the last post is lost.
const LAST_US: u64 = 2_000_000;
/// How long clients may take to be served for the first time, in microseconds.
const WARM_US_MAX: u64 = 20_000_000;

/// Plays a part.
pub fn play(words: &[&str]) -> io::Result<()> {
    let number = |word: &str| word.parse::<u64>().map_err(io::Error::other);
    let figures = match words {
        ["posts", kind, address, clients, channels, seconds] => {
            posts(kind, address, number(clients)?, number(channels)?, number(seconds)?)?
        }
        ["fan", kind, address, followers, seconds] => {
            fan(kind, address, number(followers)?, number(seconds)?)?
        }
        ["files", verb, address, files, bytes, connections] => {
            super::files::many(verb, address, number(files)?, number(bytes)?, number(connections)?)?
        }
        _ => return Err(io::Error::other(format!("no such part: {words:?}"))),
    };
    println!("{figures}");
    Ok(())
}

/// What a part found out.
#[derive(Clone, Debug, Default)]
pub struct Figures(BTreeMap<String, f64>);

impl Figures {
    /// Reads the line that a part printed.
    pub fn read(text: &str) -> Figures {
        let words = text.split_whitespace().filter_map(|word| word.split_once('='));
        Figures(words.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
    }

    /// Adds one.
    pub fn with(mut self, name: &str, value: f64) -> Figures {
        self.0.insert(name.to_owned(), value);
        self
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// Half of `us` are below the first, 99 % below the second, in milliseconds.
    pub fn shares(self, us: &mut [u64]) -> Figures {
        us.sort_unstable();
        let at = |share: usize| us.get(us.len() * share / 100).map_or(f64::NAN, |us| *us as f64 / 1e3);
        self.with("half", at(50)).with("most", at(99))
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        write!(f, "{}", words.join(" "))
    }
}

/// The body of a client: an object of [`BODY_BYTES`].
fn body(client: &str, number: u64) -> String {
    let (begin, end) = (
        format!("{{\"client_id\":\"{client}\",\"n\":{number},\"at\":{},\"pad\":\"", clock::wall_us()),
        "\"}",
    );
    let pad = BODY_BYTES.saturating_sub(begin.len() + end.len());
    format!("{begin}{}{end}", "x".repeat(pad))
}

/// A number that a body says, whatever is around it.
fn said(text: &str, name: &str) -> Option<u64> {
    let after = text.split_once(&format!("\"{name}\":"))?.1.trim_start();
    let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    after[..digits].parse().ok()
}

#[expect(clippy::disallowed_methods, reason = "the pace of clients")]
fn pause(us: u64) {
    thread::sleep(Duration::from_micros(us));
}

// ---- posts, each after the answer to the one before ----

/// One that posts.
enum Poster {
    Http {
        http: Http,
        path: String,
    },
    /// With `hears`, it is told of all posts in its channel, its own included.
    Mqtt {
        mqtt: Mqtt,
        topic: String,
    },
}

impl Poster {
    fn new(kind: &str, address: &str, client: &str, channel: &str) -> io::Result<Poster> {
        if kind == "http" {
            return Ok(Poster::Http { http: Http::new(address), path: format!("/api/channels/{channel}") });
        }
        let mut mqtt = Mqtt::connect(address, client)?;
        if kind == "mqtt" {
            mqtt.subscribe(&format!("{channel}/+"))?;
        }
        Ok(Poster::Mqtt { mqtt, topic: format!("{channel}/{client}") })
    }

    /// Posts and waits for the answer; how many states of others it brought, or nothing if it was refused.
    fn post(&mut self, body: &str) -> io::Result<Option<u64>> {
        match self {
            Poster::Http { http, path } => {
                let answer = http.ask("POST", path, body.as_bytes())?;
                let others = answer.body.windows(11).filter(|word| word == b"\"client_id\"").count();
                Ok((answer.status == 200).then_some(others as u64))
            }
            Poster::Mqtt { mqtt, topic } => {
                let number = mqtt.publish(topic, body.as_bytes(), true)?;
                let mut others = 0;
                loop {
                    match mqtt.next()? {
                        Packet::Got(got) if got == number => return Ok(Some(others)),
                        Packet::Message(_) => others += 1,
                        Packet::Got(_) | Packet::Other => {}
                    }
                }
            }
        }
    }

    fn connections(&self) -> u64 {
        if let Poster::Http { http, .. } = self { http.connections } else { 1 }
    }
}

/// Clients that post as fast as they are answered.
fn posts(kind: &str, address: &str, clients: u64, channels: u64, seconds: u64) -> io::Result<Figures> {
    let start = Arc::new(Barrier::new(usize::try_from(clients).map_err(io::Error::other)?));
    let threads: Vec<_> = (0..clients)
        .map(|client| {
            let (kind, address, start) = (kind.to_owned(), address.to_owned(), Arc::clone(&start));
            thread::spawn(move || {
                let channel = format!("posts-{}", client % channels);
                post_all(&kind, &address, (&format!("client-{client}"), &channel), &start, seconds)
            })
        })
        .collect();
    let (mut times, mut refused, mut others, mut connections) = (Vec::new(), 0, 0, 0);
    for thread in threads {
        let done = thread.join().map_err(|_| io::Error::other("a client has failed"))??;
        times.extend(done.0);
        refused += done.1;
        others += done.2;
        connections += done.3;
    }
    let count = times.len() as f64;
    Ok(Figures::default()
        .with("rate", count / seconds as f64)
        .with("count", count)
        .with("refused", refused as f64)
        .with("others", others as f64 / count)
        .with("connections", connections as f64)
        .shares(&mut times))
}

/// Times in microseconds, posts that were refused, states that came, connections made.
type Posted = (Vec<u64>, u64, u64, u64);

fn post_all(
    kind: &str,
    address: &str,
    (client, channel): (&str, &str),
    start: &Barrier,
    seconds: u64,
) -> io::Result<Posted> {
    let warmed = warm(kind, address, client, channel);
    // Also one that has failed, or the others would wait for it.
    start.wait();
    let mut poster = warmed?;
    let before = poster.connections();
    let (mut times, mut refused, mut others) = (Vec::new(), 0, 0);
    let begun = clock::wall_us();
    let mut now = begun;
    while now < begun + seconds * 1_000_000 {
        match poster.post(&body(client, times.len() as u64))? {
            Some(came) => others += came,
            None => refused += 1,
        }
        let then = clock::wall_us();
        times.push(then.saturating_sub(now));
        now = then;
    }
    Ok((times, refused, others, poster.connections() - before))
}

/// Posts until that is taken.
fn warm(kind: &str, address: &str, client: &str, channel: &str) -> io::Result<Poster> {
    let begun = clock::wall_us();
    loop {
        let poster = Poster::new(kind, address, client, channel).and_then(|mut poster| {
            let taken = poster.post(&body(client, 0))?;
            Ok(taken.map(|_| poster))
        });
        match poster {
            Ok(Some(poster)) => return Ok(poster),
            Err(error) if clock::wall_us() > begun + WARM_US_MAX => return Err(error),
            Ok(None) if clock::wall_us() > begun + WARM_US_MAX => return Err(io::Error::other("refused")),
            Ok(None) | Err(_) => pause(50_000),
        }
    }
}

// ---- one posts, all follow ----

/// What followers share.
struct Shared {
    /// Times in microseconds from the post to its receipt.
    times: Mutex<Vec<u64>>,
    /// Looks of those that poll.
    looks: AtomicU64,
    /// To end those that follow.
    ends: Mutex<Vec<End>>,
    /// Nothing follows any more.
    over: AtomicBool,
}

fn fan(kind: &str, address: &str, followers: u64, seconds: u64) -> io::Result<Figures> {
    let shared = Arc::new(Shared {
        times: Mutex::default(),
        looks: AtomicU64::new(0),
        ends: Mutex::default(),
        over: AtomicBool::new(false),
    });
    let posting = if kind == "mqtt" { "mqtt-alone" } else { "http" };
    let mut poster = warm(posting, address, "poster", "fan")?;
    let ready = Arc::new(Barrier::new(usize::try_from(followers).map_err(io::Error::other)? + 1));
    let threads: Vec<_> = (0..followers)
        .map(|follower| {
            let (kind, address) = (kind.to_owned(), address.to_owned());
            let (shared, ready) = (Arc::clone(&shared), Arc::clone(&ready));
            thread::spawn(move || follow(&kind, &address, (follower, followers), &shared, &ready))
        })
        .collect();
    ready.wait();
    let ready_at = clock::wall_us();
    pause(300_000);
    let (begun, count) = (clock::wall_us(), seconds * POSTS_A_SECOND);
    let mut refused = 0;
    for number in 1..=count {
        let due = begun + number * 1_000_000 / POSTS_A_SECOND;
        pause(due.saturating_sub(clock::wall_us()));
        refused += u64::from(match &mut poster {
            // As subscribers have it: not sure, and without an answer.
            Poster::Mqtt { mqtt, topic } => {
                mqtt.publish(topic, body("poster", number).as_bytes(), false).map(|_| false)?
            }
            Poster::Http { .. } => poster.post(&body("poster", number))?.is_none(),
        });
    }
    pause(LAST_US);
    shared.over.store(true, Ordering::Relaxed);
    let took = (clock::wall_us() - ready_at) as f64 / 1e6;
    lock(&shared.ends).iter().for_each(End::end);
    for thread in threads {
        thread.join().map_err(|_| io::Error::other("a follower has failed"))??;
    }
    let mut times = std::mem::take(&mut *lock(&shared.times));
    Ok(Figures::default()
        .with("count", times.len() as f64)
        .with("lost", (count * followers) as f64 - times.len() as f64)
        .with("refused", refused as f64)
        .with("looks", shared.looks.load(Ordering::Relaxed) as f64 / took)
        .shares(&mut times))
}

/// One that hears what is posted.
enum Follower {
    Events(Events),
    Socket(Socket),
    Mqtt(Mqtt),
    /// When it looks next.
    Polls(Http, u64),
}

impl Follower {
    fn new(kind: &str, address: &str, (number, of): (u64, u64)) -> io::Result<Follower> {
        Ok(match kind {
            "events" => Follower::Events(Events::follow(address, "/api/channels/fan/events")?),
            "socket" => Follower::Socket(Socket::open(address, "/api/channels/fan/socket")?),
            "mqtt" => {
                let mut mqtt = Mqtt::connect(address, &format!("follower-{number}"))?;
                mqtt.subscribe("fan/+")?;
                Follower::Mqtt(mqtt)
            }
            // Not all at the same moment.
            _ => Follower::Polls(Http::new(address), clock::wall_us() + number * POLL_US / of),
        })
    }

    fn end(&self) -> io::Result<Option<End>> {
        Ok(match self {
            Follower::Events(events) => Some(events.end()?),
            Follower::Socket(socket) => Some(socket.end()?),
            Follower::Mqtt(mqtt) => Some(mqtt.end()?),
            Follower::Polls(..) => None,
        })
    }

    /// The next text that may have a post in it.
    fn next(&mut self, shared: &Shared) -> io::Result<String> {
        match self {
            Follower::Events(events) => events.next(),
            Follower::Socket(socket) => socket.next(),
            Follower::Mqtt(mqtt) => loop {
                if let Packet::Message(text) = mqtt.next()? {
                    return String::from_utf8(text).map_err(io::Error::other);
                }
            },
            Follower::Polls(http, due) => {
                let now = clock::wall_us();
                pause(due.saturating_sub(now));
                // One that is late does not catch up.
                *due = (*due).max(now) + POLL_US;
                shared.looks.fetch_add(1, Ordering::Relaxed);
                let answer = http.ask("GET", "/api/channels/fan", b"")?;
                String::from_utf8(answer.body).map_err(io::Error::other)
            }
        }
    }
}

fn follow(kind: &str, address: &str, which: (u64, u64), shared: &Shared, ready: &Barrier) -> io::Result<()> {
    let follower = Follower::new(kind, address, which);
    if let Ok(Some(end)) = follower.as_ref().map_or(Ok(None), Follower::end) {
        lock(&shared.ends).push(end);
    }
    ready.wait();
    let (mut follower, mut last, mut times) = (follower?, 0, Vec::new());
    while !shared.over.load(Ordering::Relaxed) {
        let text = match follower.next(shared) {
            Ok(text) => text,
            Err(_) if shared.over.load(Ordering::Relaxed) => break,
            Err(error) => return Err(error),
        };
        let heard = clock::wall_us();
        // A snapshot of the first look has the post with which the poster warmed up, number 0.
        let Some((number, at)) = said(&text, "n").zip(said(&text, "at")) else { continue };
        if number > last {
            last = number;
            times.push(heard.saturating_sub(at));
        }
    }
    lock(&shared.times).extend(times);
    Ok(())
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
