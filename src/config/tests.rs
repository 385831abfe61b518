//! Precedence and refusals of the settings.

use super::*;
use crate::limits::REPLICAS_MAX;

/// As simple as can be: the real ones are those of the command line.
const UNITS: UnitParsers = UnitParsers {
    size: |text| text.parse().map_err(|_| "not a size".to_owned()),
    duration: |text| text.parse().map(Duration::from_secs).map_err(|_| "not a duration".to_owned()),
};

fn platform(folder: &Path) -> Folders {
    Folders { data: Some(folder.join("share")), config: Some(folder.join("etc")) }
}

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// The settings that follow from this file and these options.
fn with_file(bytes: &[u8], given: Given) -> Result<Settings, ConfigError> {
    let folder = temporary();
    let path = folder.path().join("some.toml");
    std::fs::write(&path, bytes).expect("written");
    Settings::load(Given { config: Some(path), ..given }, &platform(folder.path()), UNITS)
}

fn refusal(text: &str) -> String {
    with_file(text.as_bytes(), Given::default()).expect_err(text).to_string()
}

#[test]
fn with_nothing_set_the_defaults_hold() {
    let folder = temporary();
    let settings = Settings::load(Given::default(), &platform(folder.path()), UNITS).expect("valid");
    assert_eq!(settings.data_dir, folder.path().join("share/thorp"));
    assert_eq!((settings.config_file, settings.file_keys), (None, BTreeSet::new()));
    assert_eq!((&*settings.cluster, settings.port), ("default", 7667));
    assert_eq!((settings.key, settings.bind), (KeySource::Open, None));
    assert_eq!((settings.timeout, settings.replicas), (Duration::from_secs(10), 2));
    assert_eq!(settings.node.role, Pin::Auto);
    assert_eq!(settings.node.heal_after, Duration::from_secs(60));
    assert_eq!(settings.node.scrub_every.interval(), Some(Duration::from_secs(7 * 24 * 3600)));
    assert!(!settings.node.name.is_empty());
}

#[test]
fn the_platforms_file_is_read_when_it_is_there() {
    let folder = temporary();
    let path = folder.path().join("etc/thorp/config.toml");
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(&path, "cluster = \"house\"").expect("written");
    let settings = Settings::load(Given::default(), &platform(folder.path()), UNITS).expect("valid");
    assert_eq!((&*settings.cluster, settings.config_file), ("house", Some(path)));
}

#[test]
fn the_file_sets_everything() {
    let text = r#"
        data_dir = "state"
        cluster = "house"
        key_file = "/keys/house.key"
        bind = "127.0.0.1"
        port = 9000
        peer = ["nas.local", "10.0.0.7:7000", "[fe80::1]:7001"]
        timeout = "3"
        replicas = 4
        role = "storage"
        name = "attic"
        capacity = "1000"
        machine = "box-1"
        heal_after = "9"
        scrub_every = "90"
        http = "off"
    "#;
    let settings = with_file(text.as_bytes(), Given::default()).expect("valid");
    let file = settings.config_file.expect("read");
    assert_eq!(settings.data_dir, file.parent().expect("a folder").join("state"));
    assert_eq!(settings.key, KeySource::File("/keys/house.key".into()));
    assert_eq!(settings.bind, Some(IpAddr::from([127, 0, 0, 1])));
    assert_eq!((&*settings.cluster, settings.port, settings.replicas), ("house", 9000, 4));
    assert_eq!(settings.timeout, Duration::from_secs(3));
    let peers: Vec<String> = settings.peers.iter().map(ToString::to_string).collect();
    assert_eq!(peers, ["nas.local", "10.0.0.7:7000", "[fe80::1]:7001"]);
    assert_eq!(settings.node.role, Pin::Storage);
    assert_eq!((&*settings.node.name, settings.node.capacity_bytes), ("attic", Some(1000)));
    assert_eq!(settings.node.machine, MachineId::parse("box-1"));
    assert_eq!(settings.node.heal_after, Duration::from_secs(9));
    assert_eq!(settings.node.scrub_every, ScrubEvery::Interval(Duration::from_secs(90)));
}

/// The keys that the file may have, in the words of its own refusal.
fn keys_of_the_file() -> Vec<String> {
    let error = toml::from_str::<File>("no_such_key = 1").expect_err("unknown").to_string();
    let (_, expected) = error.split_once("expected one of").expect("the keys");
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_list_has_every_setting_once() {
    let mut keys = keys_of_the_file();
    let mut listed: Vec<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
    keys.sort();
    listed.sort_unstable();
    assert_eq!(listed, keys, "a key of the file needs its line in `SETTINGS`");
}

#[test]
fn every_role_has_its_name() {
    assert_eq!(ROLES.map(|role| parse_role(role).map(values::role_name)), ROLES.map(Ok));
}

#[test]
fn what_the_file_set_is_known() {
    let given = Given { port: Some(1), ..Given::default() };
    let settings = with_file(b"port = 2\npeer = []\n'cluster' = 'house'", given).expect("valid");
    assert_eq!(settings.file_keys.iter().collect::<Vec<_>>(), ["cluster", "peer", "port"]);
    let value = |key| SETTINGS.iter().find(|setting| setting.key == key).map(|it| (it.value)(&settings));
    assert_eq!(value("port"), Some(Value::Number(1)));
    assert_eq!(value("peer"), Some(Value::List(vec![])));
    assert_eq!(value("capacity"), Some(Value::Unset));
}

#[test]
fn the_scrub_can_be_off_and_is_never_a_busy_loop() {
    let of = |text: &str| with_file(format!("scrub_every = \"{text}\"").as_bytes(), Given::default());
    assert_eq!(of("off").expect("valid").node.scrub_every, ScrubEvery::Off);
    assert_eq!(of("1").expect("valid").node.scrub_every.interval(), Some(Duration::from_secs(1)));
    for text in ["0", "on", ""] {
        assert!(of(text).is_err_and(|error| error.to_string().contains("scrub_every")), "{text:?}");
    }
    let given = Given { scrub_every: Some(ScrubEvery::Off), ..Given::default() };
    assert_eq!(with_file(b"scrub_every = \"7\"", given).expect("valid").node.scrub_every, ScrubEvery::Off);
}

#[test]
fn messages_are_kept_for_a_time_or_for_ever_and_hooks_have_limits() {
    let of = |text: &str| with_file(text.as_bytes(), Given::default());
    let node = of("").expect("valid").node;
    assert_eq!(
        (node.sent_ttl.duration(), node.inbox_ttl),
        (Some(Duration::from_secs(86_400)), Lifetime::Endless)
    );
    assert_eq!((node.hook_timeout, node.hook_tries, node.hooks_at_once), (Duration::from_secs(60), 3, 4));
    let node = of("sent_ttl='off'\ninbox_ttl='7'\nhook_tries=1\nhooks_at_once=9").expect("valid").node;
    assert_eq!((node.sent_ttl, node.inbox_ttl.duration()), (Lifetime::Endless, Some(Duration::from_secs(7))));
    assert_eq!((node.hook_tries, node.hooks_at_once), (1, 9));
    for text in
        ["hook_timeout = '0'", "hook_tries = 0", "hook_tries = 51", "hooks_at_once = -1", "sent_ttl = 'soon'"]
    {
        let key = text.split(' ').next().expect("a key");
        assert!(of(text).is_err_and(|error| error.to_string().contains(key)), "{text}");
    }
}

#[test]
fn options_and_environment_go_before_the_file() {
    let given = Given {
        cluster: Some("barn".into()),
        port: Some(1),
        timeout: Some(Duration::from_secs(1)),
        replicas: Some(3),
        role: Some(Pin::Client),
        key_file: Some("mine".into()),
        peers: Some(vec![]),
        ..Given::default()
    };
    let text = "cluster='house'\nport=2\ntimeout='2'\nreplicas=2\nrole='proxy'\nkey_file='theirs'\npeer=['x']\nname='n'";
    let settings = with_file(text.as_bytes(), given).expect("valid");
    assert_eq!((&*settings.cluster, settings.port, settings.replicas), ("barn", 1, 3));
    assert_eq!((settings.timeout, settings.node.role), (Duration::from_secs(1), Pin::Client));
    assert_eq!((settings.key, settings.peers), (KeySource::File("mine".into()), vec![]));
    assert_eq!(&*settings.node.name, "n");
}

#[test]
fn a_file_that_was_asked_for_must_be_there() {
    let folder = temporary();
    let given = Given { config: Some(folder.path().join("none.toml")), ..Given::default() };
    let error = Settings::load(given, &platform(folder.path()), UNITS).expect_err("refused");
    assert!(matches!(&error, ConfigError::Missing { path } if path.ends_with("none.toml")), "{error}");
}

#[test]
fn an_unknown_key_is_named_with_its_file_and_line() {
    let message = refusal("port = 1\nprot = 2\n");
    for part in ["some.toml", "line 2", "unknown key `prot`", "`port`"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_wrong_value_names_its_key() {
    for (text, key) in [
        ("port = 0", "port"),
        ("port = 70000", "port"),
        ("port = -1", "port"),
        ("port = \"x\"", "port"),
        ("replicas = 0", "replicas"),
        ("replicas = 65", "replicas"),
        ("timeout = \"soon\"", "timeout"),
        ("timeout = 10", "timeout"),
        ("capacity = \"much\"", "capacity"),
        ("bind = \"eth0\"", "bind"),
        ("role = \"king\"", "role"),
        ("http = \"nas:80\"", "http"),
        ("peer = \"x\"", "peer"),
        ("peer = [\"a b\"]", "peer"),
        ("cluster = \"\"", "cluster"),
        ("machine = \"\"", "machine"),
    ] {
        let message = refusal(text);
        assert!(message.contains(&format!("`{key}`")) && message.contains("some.toml"), "{text}: {message}");
    }
}

#[test]
fn a_file_that_is_no_toml_is_refused_without_showing_it() {
    let message = refusal("cluster = house secret-words\n");
    assert!(message.contains("line 1") && !message.contains("secret-words"), "{message}");
    let message = refusal("key = \"secret-words\"\n");
    assert!(message.contains("unknown key `key`") && !message.contains("secret-words"), "{message}");
    let binary = with_file(b"name = \"\xff\"", Given::default()).expect_err("refused");
    assert!(matches!(binary, ConfigError::NotText { at: 9, .. }), "{binary}");
    let large = vec![b'#'; usize::try_from(CONFIG_BYTES_MAX).expect("small") + 1];
    assert!(matches!(with_file(&large, Given::default()), Err(ConfigError::TooLarge { .. })));
    assert!(with_file(&large[1..], Given::default()).is_ok());
}

#[test]
fn the_key_comes_from_one_place() {
    let load = |key: Option<&str>, file: Option<&str>, toml: &str| {
        let given = Given { key: key.map(Secret::new), key_file: file.map(Into::into), ..Given::default() };
        with_file(toml.as_bytes(), given).map(|settings| settings.key)
    };
    assert_eq!(load(Some("a b"), None, "").expect("valid"), KeySource::Text(Secret::new("a b")));
    assert_eq!(load(Some("a b"), None, "key_file='x'").expect("valid"), KeySource::Text(Secret::new("a b")));
    assert!(matches!(load(Some("a"), Some("f"), ""), Err(ConfigError::TwoKeys)));
}

#[test]
fn the_key_is_never_shown() {
    let given = Given { key: Some(Secret::new("correct horse")), ..Given::default() };
    let settings = with_file(b"", given).expect("valid");
    assert!(!format!("{settings:?}").contains("horse"));
    // What was given holds it too, before it is resolved.
    let given = Given { key: Some(Secret::new("correct horse")), ..Given::default() };
    assert!(!format!("{given:?}").contains("horse"));
}

#[test]
fn peers_are_hosts_with_or_without_a_port() {
    for (text, host, port) in [
        ("nas", "nas", None),
        ("nas.local:80", "nas.local", Some(80)),
        ("10.0.0.1", "10.0.0.1", None),
        ("fe80::1", "fe80::1", None),
        ("[::1]", "::1", None),
        ("[::1]:7667", "::1", Some(7667)),
    ] {
        let peer = parse_peer(text).expect(text);
        assert_eq!((&*peer.host, peer.port), (host, port));
        for is_https in [false, true] {
            let host = HttpHost { at: peer.clone(), is_https };
            assert_eq!(parse_http_host(&host.to_string()), Ok(host));
        }
        assert_eq!(parse_peer(&peer.to_string()), Ok(peer));
    }
    for text in
        ["", ":80", "nas:", "nas:0", "nas:99999", "a b", "[nas]:1", "[::1", "[::1]80", "http://nas", "a,b"]
    {
        assert!(parse_peer(text).is_err(), "{text:?}");
        assert!(parse_http_host(text).is_err() && parse_http_host(&format!("https://{text}")).is_err());
    }
}

#[test]
fn copies_are_one_to_the_most() {
    assert_eq!(check_replicas(1), Ok(1));
    assert_eq!(check_replicas(i64::from(REPLICAS_MAX)), Ok(REPLICAS_MAX));
    for count in [0, -1, i64::from(REPLICAS_MAX) + 1, 256, i64::MAX] {
        assert!(check_replicas(count).is_err(), "{count}");
    }
}
