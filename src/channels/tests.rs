//! The rules of channels one by one, and any sequence of requests against a naive model.

use super::feed::Mirror;
use super::*;
use crate::clock::Rng;
use crate::limits::{CHANNEL_BODY_BYTES_MAX, CLIENT_ID_BYTES_MAX};
use proptest::prelude::*;

const GRACE: u64 = 1_000;

fn key(text: &str) -> ChannelKey {
    ChannelKey::parse(text).expect("a key")
}

fn id(text: &str) -> ClientId {
    ClientId::parse(text).expect("an id")
}

fn token(n: u8) -> ClientToken {
    ClientToken::from_random([n; 16])
}

fn body(client: &str, what: &str) -> Body {
    Body::parse(&format!(r#"{{"client_id":"{client}","x":"{what}"}}"#)).expect("a body")
}

fn at_time(client: &str, seconds: f64) -> ClientSays {
    ClientSays { id: Some(id(client)), time: ClientTime::new(seconds), token: None }
}

fn with_token(n: u8) -> ClientSays {
    ClientSays { token: Some(token(n)), ..ClientSays::default() }
}

/// A table at time 0 whose grace is over at once.
struct Table {
    channels: Channels,
    now: Moment,
    /// What is drawn for the next post.
    drawn: u8,
}

impl Table {
    fn strict(strict: bool) -> Table {
        let beginning = Beginning { epoch: 9, heard: Heard::default(), strict };
        let channels = Channels::begin_lead(Moment(0), beginning);
        Table { channels, now: Moment(GRACE), drawn: 1 }
    }

    fn new() -> Table {
        Table::strict(false)
    }

    fn later(&mut self, ms: u64) -> &mut Table {
        self.now = self.now.plus(ms);
        self
    }

    fn post_as(
        &mut self,
        channel: &str,
        body: &Body,
        says: &ClientSays,
        expiry: Option<u64>,
    ) -> Result<Answer, ChannelRefusal> {
        self.channels.post(self.now, (&key(channel), body), says, expiry, token(self.drawn))
    }

    /// The others' list.
    #[track_caller]
    fn post(&mut self, channel: &str, client: &str, what: &str) -> String {
        self.post_as(channel, &body(client, what), &ClientSays::default(), None).expect("taken").1
    }

    fn get(&mut self, channel: &str) -> String {
        self.channels.get(self.now, &key(channel), &ClientSays::default(), None).1
    }

    fn ids(&mut self, channel: &str) -> String {
        let list: Vec<serde_json::Value> = serde_json::from_str(&self.get(channel)).expect("a list");
        list.iter().map(|body| body["client_id"].as_str().expect("an id").to_owned()).collect()
    }

    fn names(&mut self) -> Vec<String> {
        match self.channels.list(self.now) {
            ChannelReply::Channels { channels } => channels.iter().map(ToString::to_string).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn state(&mut self, channel: &str) -> ChannelState {
        match self.channels.get(self.now, &key(channel), &ClientSays::default(), None).0 {
            ChannelReply::Bodies { state, .. } => state,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_post_gives_the_others_and_a_get_gives_all_verbatim() {
    let mut table = Table::new();
    let odd = Body::parse(" { \"client_id\" : \"b\" ,\n \"n\":1.50 }\t").expect("a body");
    assert_eq!(table.post("k", "a", "1"), "[]");
    assert_eq!(
        table.post_as("k", &odd, &ClientSays::default(), None).expect("taken").1,
        format!("[{}]", body("a", "1").text)
    );
    assert_eq!(table.get("k"), format!("[{},{}]", body("a", "1").text, odd.text));
    assert_eq!(table.post("k", "a", "2"), format!("[{}]", odd.text), "an update keeps the place");
    assert_eq!(table.ids("k"), "ab");
    assert_eq!(
        (table.get("other"), table.names()),
        ("[]".into(), vec!["k".into()]),
        "a get makes no channel"
    );
    table.post("j", "a", "1");
    assert_eq!(table.names(), ["j", "k"]);
}

#[test]
fn a_client_is_gone_at_its_last_post_and_the_expiry() {
    let mut table = Table::new();
    table.post("k", "a", "1");
    table.later(400).post("k", "b", "1");
    table.later(599).get("k");
    assert_eq!(table.ids("k"), "ab", "999 ms");
    assert_eq!(table.later(1).ids("k"), "b", "1,000 ms; reading keeps nobody");
    table.later(200).post("k", "b", "1");
    assert_eq!(table.later(999).ids("k"), "b", "the same body again keeps it");
    assert_eq!(
        (table.later(1).ids("k"), table.names().len()),
        (String::new(), 0),
        "the channel goes with it"
    );
    assert_eq!(table.channels.next_expiry(), None);
    assert_eq!((table.channels.bytes, table.channels.alarms.len()), (0, 0));
}

#[test]
fn the_first_to_post_sets_the_expiry() {
    let mut table = Table::new();
    let none = ClientSays::default();
    let post = |table: &mut Table, client, expiry| table.post_as("k", &body(client, ""), &none, expiry);
    for bad in [0, 99, 3_600_001, u64::MAX] {
        assert_eq!(post(&mut table, "a", Some(bad)), Err(ChannelRefusal::Expiry));
    }
    assert_eq!(table.names().len(), 0, "a bad post makes no channel");
    post(&mut table, "a", Some(100)).expect("taken");
    post(&mut table, "b", Some(3_600_000)).expect("taken");
    assert_eq!(table.channels.next_expiry(), Some(table.now.plus(100)));
    assert_eq!(table.later(99).ids("k"), "ab");
    assert_eq!(table.later(1).ids("k"), "");
    post(&mut table, "a", Some(3_600_000)).expect("taken");
    assert_eq!(table.later(3_599_999).ids("k"), "a");
    assert_eq!(table.later(1).ids("k"), "");
}

#[test]
fn the_alarm_is_never_later_than_the_next_end() {
    let mut table = Table::new();
    table.post("k", "a", "1");
    for _ in 0..20 {
        table.later(300).post("k", "a", "1");
        assert!(table.channels.next_expiry().expect("one") <= table.now.plus(1_000));
        assert_eq!(table.channels.alarms.len(), 1, "one a client");
    }
    for _ in 0..20 {
        table.channels.leave(table.now, &key("k"), &id("a"), None).expect("left");
        table.post("k", "a", "1");
        assert_eq!(table.channels.alarms.len(), 1, "one a client");
    }
}

#[test]
fn what_is_late_is_left_out() {
    let mut table = Table::new();
    let at = |table: &mut Table, channel, client, what, seconds| {
        table.post_as(channel, &body(client, what), &at_time(client, seconds), None).expect("no error").0
    };
    let late = ChannelReply::NoUpdate { late: true, token: None };
    at(&mut table, "k", "a", "5", 5.0);
    assert_eq!(at(&mut table, "k", "a", "4", 4.999), late);
    assert_eq!(table.get("k"), format!("[{}]", body("a", "5").text), "nothing is stored");
    assert_ne!(at(&mut table, "k", "a", "5again", 5.0), late, "the same time is not late");
    assert_ne!(at(&mut table, "j", "a", "1", 1.0), late, "each channel has its own times");
    assert_ne!(at(&mut table, "k", "b", "1", 1.0), late, "and each client");
    let get =
        |table: &mut Table, seconds| table.channels.get(table.now, &key("k"), &at_time("a", seconds), None).0;
    assert_eq!(get(&mut table, 4.0), late);
    assert_ne!(get(&mut table, 6.0), late);
    assert_eq!(at(&mut table, "k", "a", "5", 5.5), late, "a get counts");
    let no_id = ClientSays { id: None, ..at_time("a", 1.0) };
    assert_ne!(table.post_as("k", &body("a", "9"), &no_id, None).expect("taken").0, late, "both or none");
    let other = at_time("b", 9.0);
    assert_eq!(table.post_as("k", &body("a", "9"), &other, None), Err(ChannelRefusal::OtherClient));
    table.later(1_000);
    assert_ne!(at(&mut table, "k", "a", "0", 0.0), late, "forgotten with the client");
}

#[test]
fn a_late_post_keeps_nobody_alive() {
    let mut table = Table::new();
    table.post_as("k", &body("a", "1"), &at_time("a", 5.0), None).expect("taken");
    table.later(900).post_as("k", &body("a", "0"), &at_time("a", 4.0), None).expect("late");
    assert_eq!(table.later(100).ids("k"), "");
}

#[test]
fn who_shows_a_token_owns_its_id() {
    let mut table = Table::new();
    let said = |answer: Answer| match answer.0 {
        ChannelReply::Bodies { token, .. } | ChannelReply::NoUpdate { token, .. } => token,
        other => panic!("{other:?}"),
    };
    let none = ClientSays::default();
    let post =
        |table: &mut Table, says: &ClientSays| table.post_as("k", &body("a", "1"), says, None).map(said);
    assert_eq!(post(&mut table, &none), Ok(Some(token(1))), "the first post draws one");
    table.drawn = 9;
    assert_eq!(post(&mut table, &none), Ok(None), "it is told once, and not needed yet");
    assert_eq!(post(&mut table, &with_token(2)), Err(ChannelRefusal::WrongToken));
    assert_eq!(post(&mut table, &with_token(1)), Ok(None));
    assert_eq!(post(&mut table, &none), Err(ChannelRefusal::TokenNeeded), "from now on it is");
    let leave = |table: &mut Table, token| table.channels.leave(table.now, &key("k"), &id("a"), token);
    assert_eq!(leave(&mut table, None), Err(ChannelRefusal::TokenNeeded));
    assert_eq!(leave(&mut table, Some(token(2))), Err(ChannelRefusal::WrongToken));
    assert_eq!(leave(&mut table, Some(token(1))), Ok(ChannelReply::Left));
    assert_eq!(leave(&mut table, Some(token(1))), Err(ChannelRefusal::NoClient));
    assert_eq!(post(&mut table, &with_token(7)), Ok(Some(token(7))), "one that nobody knows is taken on");
    assert_eq!(post(&mut table, &none), Err(ChannelRefusal::TokenNeeded));
    assert_eq!(post(&mut table, &with_token(1)), Err(ChannelRefusal::WrongToken));
    table.later(999);
    assert_eq!(post(&mut table, &none), Err(ChannelRefusal::TokenNeeded));
    table.later(1);
    assert_eq!(post(&mut table, &none), Ok(Some(token(9))), "what is refused keeps nobody alive");
}

#[test]
fn strict_asks_for_a_token_from_the_second_post_on() {
    let mut table = Table::strict(true);
    table.post("k", "a", "1");
    table.drawn = 9;
    let second = table.post_as("k", &body("a", "2"), &ClientSays::default(), None);
    assert_eq!(second, Err(ChannelRefusal::TokenNeeded));
    assert_eq!(table.channels.leave(table.now, &key("k"), &id("a"), None), Err(ChannelRefusal::TokenNeeded));
    table.post_as("k", &body("a", "2"), &with_token(1), None).expect("taken");
}

#[test]
fn a_stranger_cannot_lock_an_owner_out_by_a_time_far_ahead() {
    let mut table = Table::new();
    let owner = ClientSays { token: Some(token(3)), ..at_time("a", 5.0) };
    table.post_as("k", &body("a", "1"), &owner, None).expect("taken");
    table.channels.get(table.now, &key("k"), &at_time("a", 1e300), None);
    let refused = table.post_as("k", &body("a", "1"), &at_time("a", 1e300), None);
    assert_eq!(refused, Err(ChannelRefusal::TokenNeeded));
    let answer = table.post_as("k", &body("a", "2"), &owner, None).expect("taken");
    assert!(matches!(answer.0, ChannelReply::Bodies { .. }), "{answer:?}");
}

#[test]
fn a_state_stands_for_one_list() {
    let mut table = Table::new();
    let mut seen = BTreeMap::new();
    let steps: [&dyn Fn(&mut Table); 6] = [
        &|table| drop(table.post("k", "a", "1")),
        &|table| drop(table.post("k", "a", "1")),
        &|table| drop(table.post("k", "b", "1")),
        &|table| table.now = table.now.plus(1_000),
        &|table| drop(table.post("k", "a", "2")),
        &|table| drop(table.channels.leave(table.now, &key("k"), &id("a"), None)),
    ];
    for step in steps.iter().cycle().take(30) {
        step(&mut table);
        let (state, list) = (table.state("k"), table.get("k"));
        assert_eq!(state.epoch, 9);
        assert_eq!(*seen.entry(state.version).or_insert_with(|| list.clone()), list);
        let again = table.channels.get(table.now, &key("k"), &ClientSays::default(), Some(state)).0;
        assert!(matches!(again, ChannelReply::Unchanged { .. }), "{again:?}");
        let other = ChannelState { epoch: 8, ..state };
        let again = table.channels.get(table.now, &key("k"), &ClientSays::default(), Some(other)).0;
        assert!(matches!(again, ChannelReply::Bodies { .. }), "{again:?}");
    }
    assert!(seen.len() > 10);
}

#[test]
fn a_new_proxy_gives_nothing_out_before_everybody_had_the_time_to_post() {
    for (heard, grace) in [(0, 1_000), (500, 1_000), (5_000, 5_000), (u64::MAX, CHANNEL_GRACE_MS_MAX)] {
        let heard = Heard { server_time_ms: 70_000, expiry_ms_max: heard };
        let mut channels = Channels::begin_lead(Moment(50), Beginning { epoch: 1, heard, strict: true });
        let (key, none, post) = (key("k"), ClientSays::default(), body("a", "1"));
        let no_update = ChannelReply::NoUpdate { late: false, token: None };
        assert_eq!(channels.grace_until(), Moment(50 + grace));
        let last = Moment(50 + grace - 1);
        assert_eq!(channels.get(Moment(50), &key, &none, None).0, no_update);
        assert_eq!(channels.list(Moment(50)), no_update);
        assert_eq!(channels.leave(Moment(50), &key, &id("a"), None), Ok(no_update.clone()));
        let told = channels.post(last, (&key, &post), &none, None, token(1)).expect("taken").0;
        assert_eq!(
            told,
            ChannelReply::NoUpdate { late: false, token: Some(token(1)) },
            "else it could never post again"
        );
        let mut cursor = Cursor::default();
        assert_eq!(channels.changes(last, &key, &mut cursor), None);
        let known = Some(channels.state(&key));
        assert_eq!(channels.get(last, &key, &none, known).0, no_update);
        let now = Moment(50 + grace);
        assert_eq!(
            channels.get(now, &key, &none, None).1,
            format!("[{}]", post.text),
            "what was posted meanwhile"
        );
        assert_eq!(channels.server_time_ms(now), 70_000 + grace);
        let changes = channels.changes(now, &key, &mut cursor).expect("changes");
        assert_eq!((changes.whole, changes.updates.len()), (true, 1));
        assert_eq!(channels.heard(now), Heard { server_time_ms: 70_000 + grace, expiry_ms_max: 1_000 });
    }
}

#[test]
fn a_first_post_that_is_sent_again_is_known_by_what_was_drawn_for_it() {
    for strict in [false, true] {
        let beginning = Beginning { epoch: 9, heard: Heard::default(), strict };
        let mut channels = Channels::begin_lead(Moment(0), beginning);
        let mut post = |now: u64, says: &ClientSays, drawn: u8| {
            let answer =
                channels.post(Moment(now), (&key("k"), &body("a", "1")), says, Some(5_000), token(drawn));
            answer.map(|(reply, _)| match reply {
                ChannelReply::NoUpdate { token, .. } | ChannelReply::Bodies { token, .. } => token,
                reply => panic!("{reply:?}"),
            })
        };
        let none = ClientSays::default();
        assert_eq!(post(1, &none, 1), Ok(Some(token(1))), "new, and nothing is given out");
        assert_eq!(post(2, &none, 1), Ok(Some(token(1))), "again");
        assert_eq!(post(GRACE, &none, 1), Ok(Some(token(1))), "and when something is");
        let other = post(GRACE + 1, &none, 2);
        let refused = Err(ChannelRefusal::TokenNeeded);
        assert_eq!(other, if strict { refused } else { Ok(None) }, "another one is somebody else");
        assert_eq!(post(GRACE + 2, &with_token(1), 3), Ok(None));
        assert_eq!(post(GRACE + 3, &none, 3), refused, "who has shown it must go on to");
    }
}

#[test]
fn server_time_never_overflows() {
    let heard = Heard { server_time_ms: u64::MAX, expiry_ms_max: u64::MAX };
    let channels = Channels::begin_lead(Moment(0), Beginning { epoch: 1, heard, strict: false });
    assert_eq!(channels.server_time_ms(Moment(7)), CHANNEL_SERVER_TIME_MAX + 7);
    let time = Heard { server_time_ms: CHANNEL_SERVER_TIME_MAX + 7, expiry_ms_max: 0 };
    assert_eq!(channels.heard(Moment(7)), time, "the time goes on without a channel, too");
}

#[test]
fn a_client_posts_a_thousand_times_a_second() {
    let mut table = Table::new();
    let none = ClientSays::default();
    let post = |table: &mut Table, client| table.post_as("k", &body(client, "1"), &none, None);
    for number in 0..CHANNEL_POSTS_PER_SECOND {
        post(&mut table, "a").unwrap_or_else(|error| panic!("{number}: {error}"));
    }
    assert_eq!(post(&mut table, "a"), Err(ChannelRefusal::TooFast));
    post(&mut table, "b").expect("each has its own allowance");
    for _ in 0..50 {
        table.later(1);
        post(&mut table, "a").expect("one a millisecond");
        assert_eq!(post(&mut table, "a"), Err(ChannelRefusal::TooFast));
    }
}

#[test]
fn channels_and_clients_are_bounded() {
    let mut table = Table::new();
    let full = Err(ChannelRefusal::Full);
    for number in 0..CHANNELS_MAX {
        table.post(&format!("{number}"), "a", "1");
    }
    let none = ClientSays::default();
    assert_eq!(table.post_as("more", &body("a", "1"), &none, None), full);
    for number in 1..CHANNEL_CLIENTS_MAX {
        table.post("0", &format!("c{number}"), "1");
    }
    assert_eq!(table.post_as("0", &body("more", "1"), &none, None), full);
    table.post("0", "a", "2");
    assert_eq!(table.later(1_000).names().len(), 0);
    table.post("more", "a", "1");
}

#[test]
fn bytes_are_bounded_and_counted_right() {
    let mut table = Table::new();
    let none = ClientSays::default();
    let large = |client: &str| body(client, &"x".repeat(CHANNEL_BODY_BYTES_MAX - 200));
    let name = |number: usize| format!("{number:0>width$}", width = CLIENT_ID_BYTES_MAX);
    let refused =
        (0..100).find(|n| table.post_as("k", &large(&name(*n)), &none, None).is_err()).expect("full");
    assert_eq!(refused, CHANNEL_BYTES_MAX / large(&name(0)).text.len());
    assert!(table.get("k").len() <= CHANNEL_BYTES_MAX + CHANNEL_CLIENTS_MAX + 2);
    let all =
        (0..1_000).take_while(|n| table.post_as(&format!("c{n}"), &large("a"), &none, None).is_ok()).count();
    let held = (all + refused) * CHANNEL_BODY_BYTES_MAX;
    assert!(table.channels.bytes <= CHANNELS_BYTES_MAX && held > CHANNELS_BYTES_MAX - 2 * CHANNEL_BYTES_MAX);
    table.post("c0", "a", "shorter goes, even where there is no room");
    table.channels.leave(table.now, &key("k"), &id(&name(0)), None).expect("left");
    table.post_as("k", &large("again"), &none, None).expect("room again");
    table.later(1_000);
    assert_eq!((table.names().len(), table.channels.bytes), (0, 0));
}

#[test]
fn a_slow_follower_is_told_each_client_once() {
    let mut table = Table::new();
    let mut cursor = Cursor::default();
    let mut look = |table: &mut Table| {
        let changes = table.channels.changes(table.now, &key("k"), &mut cursor).expect("no grace");
        let updates: String = changes.updates.iter().map(|(id, _)| id.as_str()).collect();
        let gone: String = changes.gone.iter().map(ClientId::as_str).collect();
        (changes.whole, updates, gone)
    };
    let said = |whole, updates: &str, gone: &str| (whole, updates.to_owned(), gone.to_owned());
    assert_eq!(look(&mut table), said(true, "", ""), "an empty channel is told as such");
    for what in 0..100 {
        table.post("k", "a", &what.to_string());
        table.post("k", "b", &what.to_string());
    }
    assert_eq!(look(&mut table), said(false, "ab", ""));
    table.post("k", "a", "99");
    assert_eq!(look(&mut table), said(false, "", ""), "the same again is nothing new");
    table.later(500).post("k", "b", "new");
    table.later(500);
    assert_eq!(look(&mut table), said(false, "b", "a"));
    table.later(1_000).post("k", "c", "1");
    assert_eq!(look(&mut table), said(false, "c", "b"), "the channel went and came back");
    table.later(1_000).post("k", "c", "1");
    assert_eq!(look(&mut table), said(false, "c", ""), "the client went and came back");
    table.later(1_000);
    assert_eq!(look(&mut table), said(false, "", "c"));
    assert_eq!(look(&mut table), said(false, "", ""));
}

#[test]
fn over_a_change_of_proxy_a_mirror_loses_only_who_did_not_come_back() {
    let mut mirror = Mirror::default();
    let mut cursor = Cursor::default();
    let text = |text: &str| std::sync::Arc::<str>::from(text);
    assert_eq!(mirror.changes(&mut cursor), None);
    mirror.reset();
    for client in ["a", "b", "c"] {
        mirror.update(id(client), text("1"));
    }
    assert_eq!(mirror.changes(&mut cursor), None, "not before it is complete");
    mirror.complete();
    let changes = mirror.changes(&mut cursor).expect("complete");
    assert_eq!((changes.whole, changes.updates.len()), (true, 3));
    mirror.update(id("a"), text("2"));
    mirror.gone(&id("c"));
    let changes = mirror.changes(&mut cursor).expect("complete");
    assert_eq!((changes.updates, changes.gone), (vec![(id("a"), text("2"))], vec![id("c")]));
    mirror.lose();
    assert_eq!(mirror.changes(&mut cursor), None, "what was told stays as it is");
    mirror.reset();
    mirror.update(id("b"), text("1"));
    mirror.update(id("d"), text("1"));
    mirror.lose();
    mirror.reset();
    mirror.update(id("b"), text("1"));
    mirror.complete();
    let changes = mirror.changes(&mut cursor).expect("complete");
    assert_eq!((changes.whole, changes.updates, changes.gone), (false, vec![], vec![id("a")]));
}

#[test]
fn in_another_epoch_everything_is_told_anew() {
    let mut cursor = Cursor::default();
    let mut before = Table::new();
    before.post("k", "a", "1");
    before.channels.changes(before.now, &key("k"), &mut cursor).expect("told");
    let mut after = Table::new();
    after.channels.beginning.epoch = 10;
    after.post("k", "b", "1");
    let mut look = || after.channels.changes(after.now, &key("k"), &mut cursor).expect("told");
    let changes = look();
    assert_eq!((changes.whole, changes.updates.len(), changes.gone.len()), (true, 1, 0));
    assert!(look().is_empty());
    cursor.begin_anew();
    assert!(after.channels.changes(after.now, &key("k"), &mut cursor).expect("told").whole);
}

#[test]
fn changes_are_told_by_channel() {
    let mut table = Table::new();
    table.post("k", "a", "1");
    table.later(500).post("j", "a", "1");
    assert_eq!(table.channels.take_changed(), [key("j"), key("k")].into());
    table.post("k", "a", "1");
    assert!(table.channels.take_changed().is_empty());
    table.later(1_000);
    table.channels.sweep(table.now);
    assert_eq!(table.channels.take_changed(), [key("j"), key("k")].into());
}

/// As simple as it can be: a list of clients, looked through each time.
#[derive(Default)]
struct Model {
    rows: Vec<Known>,
    expiries: BTreeMap<String, u64>,
}

struct Known {
    channel: String,
    client: String,
    text: String,
    posted: u64,
    time: Option<f64>,
    token: u8,
    owned: bool,
}

impl Model {
    fn sweep(&mut self, now: u64) {
        let expiries = &self.expiries;
        self.rows.retain(|row| row.posted + expiries[&row.channel] > now);
        self.expiries.retain(|channel, _| self.rows.iter().any(|row| row.channel == *channel));
    }

    fn list(&self, channel: &str, except: &str) -> String {
        let rows = self.rows.iter().filter(|row| row.channel == channel && row.client != except);
        format!("[{}]", rows.map(|row| row.text.as_str()).collect::<Vec<_>>().join(","))
    }

    fn find(&mut self, channel: &str, client: &str) -> Option<&mut Known> {
        self.rows.iter_mut().find(|row| row.channel == channel && row.client == client)
    }

    fn may(row: &Known, token: Option<u8>) -> bool {
        token.map_or(!row.owned, |token| token == row.token)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Post {
        channel: u8,
        client: u8,
        what: u8,
        time: Option<u8>,
        token: Option<u8>,
        drawn: u8,
        expiry: Option<u64>,
    },
    Get {
        channel: u8,
    },
    Leave {
        channel: u8,
        client: u8,
        token: Option<u8>,
    },
    Wait {
        ms: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (channel, client) = (0..2_u8, 0..3_u8);
    let token = || proptest::option::weighted(0.4, 1..3_u8);
    let expiry = proptest::option::weighted(0.3, prop::sample::select(vec![100_u64, 250, 2_000]));
    let post =
        (channel.clone(), client.clone(), 0..3_u8, proptest::option::of(0..6_u8), (token(), 1..4_u8), expiry);
    prop_oneof![
        5 => post.prop_map(|(channel, client, what, time, (token, drawn), expiry)| Step::Post {
            channel, client, what, time, token, drawn, expiry
        }),
        1 => channel.clone().prop_map(|channel| Step::Get { channel }),
        1 => (channel, client, token()).prop_map(|(channel, client, token)| Step::Leave { channel, client, token }),
        3 => (0..400_u64).prop_map(|ms| Step::Wait { ms }),
    ]
}

/// A follower that looks now and then, and what it believes.
#[derive(Default)]
struct Reader {
    cursor: Cursor,
    believes: Vec<(String, String)>,
}

impl Reader {
    fn look(&mut self, table: &mut Table, channel: &str) {
        let changes = table.channels.changes(table.now, &key(channel), &mut self.cursor).expect("no grace");
        self.believes
            .retain(|(id, _)| !changes.whole && !changes.gone.iter().any(|gone| gone.as_str() == id));
        for (id, text) in changes.updates {
            match self.believes.iter_mut().find(|known| known.0 == id.as_str()) {
                Some(known) => known.1 = text.to_string(),
                None => self.believes.push((id.to_string(), text.to_string())),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_is_as_in_the_model(steps in prop::collection::vec(step(), 1..120), seed: u64) {
        let (mut table, mut model, mut rng) = (Table::new(), Model::default(), Rng::seeded(seed));
        let mut readers: [Reader; 2] = Default::default();
        for step in steps {
            let now = table.now.0;
            model.sweep(now);
            match step {
                Step::Wait { ms } => table.now = table.now.plus(ms),
                Step::Get { channel } => {
                    let channel = channel.to_string();
                    prop_assert_eq!(table.get(&channel), model.list(&channel, ""));
                    prop_assert_eq!(table.names(), model.expiries.keys().cloned().collect::<Vec<_>>());
                }
                Step::Leave { channel, client, token: shown } => {
                    let (channel, client) = (channel.to_string(), client.to_string());
                    let left = table.channels.leave(table.now, &key(&channel), &id(&client), shown.map(token));
                    let may = model.find(&channel, &client).is_some_and(|row| Model::may(row, shown));
                    prop_assert_eq!(left.is_ok(), may);
                    model.rows.retain(|row| !may || row.channel != channel || row.client != client);
                    model.sweep(now);
                }
                Step::Post { channel, client, what, time, token: shown, drawn, expiry } => {
                    table.drawn = drawn;
                    let (channel, client) = (channel.to_string(), client.to_string());
                    let body = body(&client, &what.to_string());
                    let time = time.map(f64::from);
                    let says = ClientSays {
                        id: Some(id(&client)),
                        time: time.and_then(ClientTime::new),
                        token: shown.map(token),
                    };
                    let answer = table.post_as(&channel, &body, &says, expiry);
                    let (text, fresh) = (body.text.to_string(), model.find(&channel, &client).is_none());
                    if fresh {
                        model.expiries.entry(channel.clone()).or_insert(expiry.unwrap_or(1_000));
                        let (channel, client) = (channel.clone(), client.clone());
                        let (token, owned) = (shown.unwrap_or(drawn), shown.is_some());
                        model.rows.push(Known { channel, client, text, posted: now, time, token, owned });
                    } else if let Some(row) = model.find(&channel, &client) {
                        let again = shown.is_none() && row.token == drawn;
                        if !again && !Model::may(row, shown) {
                            prop_assert!(answer.is_err());
                            continue;
                        }
                        row.owned |= shown.is_some();
                        if time.zip(row.time).is_some_and(|(time, last)| time < last) {
                            prop_assert_eq!(answer.expect("late").0, ChannelReply::NoUpdate { late: true, token: None });
                            continue;
                        }
                        (row.text, row.posted, row.time) = (text, now, time.or(row.time));
                    }
                    prop_assert_eq!(answer.expect("taken").1, model.list(&channel, &client));
                }
            }
            for (channel, reader) in readers.iter_mut().enumerate() {
                if rng.below(3) == 0 {
                    reader.look(&mut table, &channel.to_string());
                    let mut right: Vec<String> = reader.believes.iter().map(|known| known.1.clone()).collect();
                    model.sweep(table.now.0);
                    let rows = model.rows.iter().filter(|row| row.channel == channel.to_string());
                    let mut wanted: Vec<String> = rows.map(|row| row.text.clone()).collect();
                    right.sort();
                    wanted.sort();
                    prop_assert_eq!(right, wanted);
                }
            }
            prop_assert_eq!(table.channels.alarms.len(), table.channels.channels.values().map(|c| c.feed.len()).sum::<usize>());
        }
        table.later(10_000).names();
        prop_assert_eq!((table.channels.bytes, table.channels.alarms.len()), (0, 0));
    }
}
