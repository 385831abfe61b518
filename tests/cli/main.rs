//! The command line as a person or a script meets it, where no network is needed.

#![allow(clippy::expect_used, reason = "a test that cannot go on fails")]

mod messages;

use assert_cmd::Command;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;

/// thorp, with a home of its own and no variables of whoever runs the tests.
fn thorp(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thorp"));
    command.env_clear().env("HOME", home).current_dir(home);
    command
}

fn home() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

struct Ended {
    code: i32,
    output: String,
    errors: String,
}

fn run(command: &mut Command) -> Ended {
    let output = command.output().expect("started");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ended {
        code: output.status.code().expect("an exit code"),
        output: text(output.stdout),
        errors: text(output.stderr),
    }
}

/// The document on standard output, which must be one line of JSON and nothing else.
fn document(ended: &Ended) -> serde_json::Value {
    assert_eq!(ended.output.lines().count(), 1, "{}", ended.output);
    serde_json::from_str(&ended.output).expect("JSON")
}

#[test]
fn help_and_version_go_to_standard_output() {
    let home = home();
    for typed in [&["--help"][..], &["help", "put"], &["put", "--help"], &["key", "new", "--help"]] {
        let ended = run(thorp(home.path()).args(typed));
        assert_eq!((ended.code, &*ended.errors), (0, ""), "{typed:?}");
        assert!(ended.output.contains("Example"), "{typed:?}: {}", ended.output);
    }
    let version = run(thorp(home.path()).arg("--version"));
    assert_eq!((version.code, version.output), (0, format!("thorp {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn wrong_usage_exits_with_2_and_prints_nothing_on_standard_output() {
    let home = home();
    for typed in [
        &[][..],
        &["nonsense"],
        &["put"],
        &["put", "x", "-n", "0"],
        &["put", "-"],
        &["ls", "--timeout", "soon"],
        &["ls", "--timeout", "-1s"],
        &["up", "--capacity", "1XB"],
        &["up", "--http", "0.0.0.0"],
        &["ls", "--key", "secret"],
        &["ls", "--config", "none.toml"],
    ] {
        let ended = run(thorp(home.path()).args(typed));
        assert_eq!((ended.code, &*ended.output), (2, ""), "{typed:?}: {}", ended.errors);
        assert!(!ended.errors.is_empty() && !ended.errors.contains("secret"), "{typed:?}");
    }
}

#[test]
fn no_copies_at_all_points_to_rm() {
    let home = home();
    let ended = run(thorp(home.path()).args(["replicas", "x", "0"]));
    assert_eq!(ended.code, 2);
    assert!(ended.errors.contains("thorp rm"), "{}", ended.errors);
}

#[test]
fn wrong_usage_is_a_json_error_for_those_who_asked_for_json() {
    let home = home();
    for (variable, typed) in [
        ("", &["--json", "nonsense"][..]),
        ("", &["replicas", "x", "0", "--json"]),
        ("", &["put", "-", "--json"]),
        ("1", &["ls", "--timeout", "soon"]),
    ] {
        let ended = run(thorp(home.path()).env("THORP_JSON", variable).args(typed));
        assert_eq!((ended.code, &*ended.errors), (2, ""), "{typed:?}");
        let error = &document(&ended)["error"];
        assert_eq!(error["code"], "usage", "{typed:?}");
        assert!(!error["message"].as_str().expect("text").is_empty());
        assert!(!error["hint"].as_str().expect("text").is_empty());
    }
}

#[test]
fn variables_stand_for_options_and_options_go_first() {
    let home = home();
    let ended = run(thorp(home.path()).env("THORP_TIMEOUT", "soon").args(["ls"]));
    assert_eq!(ended.code, 2);
    assert!(ended.errors.contains("500ms"), "{}", ended.errors);
    // An option in either place is stronger than the variable.
    for typed in [&["--config", "other.toml", "ls"][..], &["ls", "--config", "other.toml"]] {
        let ended = run(thorp(home.path()).env("THORP_CONFIG", "variable.toml").args(typed));
        assert!(
            ended.errors.contains("other.toml") && !ended.errors.contains("variable"),
            "{}",
            ended.errors
        );
    }
    let ended = run(thorp(home.path()).env("THORP_CONFIG", "variable.toml").arg("ls"));
    assert!(ended.errors.contains("variable.toml"), "{}", ended.errors);
    // Set to nothing, it is as if it were not set: what is refused is something else, later.
    let ended = run(thorp(home.path())
        .env("THORP_CONFIG", "")
        .env("THORP_PEER", "")
        .env("THORP_KEY", "correct horse")
        .args(["ls", "--key-file", "k"]));
    assert!(ended.errors.starts_with("error: both `THORP_KEY`"), "{}", ended.errors);
}

#[test]
fn a_wrong_config_file_is_refused_with_its_name_and_key() {
    let home = home();
    let folder = home.path().join(".config/thorp");
    std::fs::create_dir_all(&folder).expect("made");
    for (text, word) in [
        (&b"prot = 1"[..], "unknown key `prot`"),
        (b"timeout = \"soon\"", "`timeout`"),
        (b"port = 0", "`port`"),
        (b"name = \"\xff\"", "UTF-8"),
        (b"[[[", "line 1"),
    ] {
        std::fs::write(folder.join("config.toml"), text).expect("written");
        let ended = run(thorp(home.path()).env("XDG_CONFIG_HOME", home.path().join(".config")).arg("ls"));
        assert_eq!(ended.code, 2, "{}", ended.errors);
        assert!(ended.errors.contains(word) && ended.errors.contains("config.toml"), "{}", ended.errors);
        assert!(ended.errors.contains("hint: "), "{}", ended.errors);
    }
    // What needs no settings still works.
    let ended =
        run(thorp(home.path()).env("XDG_CONFIG_HOME", home.path().join(".config")).args(["key", "new"]));
    assert_eq!(ended.code, 0, "{}", ended.errors);
}

#[test]
fn a_key_given_twice_or_empty_is_refused_and_never_shown() {
    let home = home();
    let ended = run(thorp(home.path()).env("THORP_KEY", "correct horse").args(["ls", "--key-file", "k"]));
    assert_eq!(ended.code, 2);
    assert!(ended.errors.contains("THORP_KEY") && ended.errors.contains("--key-file"), "{}", ended.errors);
    assert!(!ended.errors.contains("horse"));
    let ended = run(thorp(home.path()).env("THORP_KEY", "").arg("ls"));
    assert_eq!(ended.code, 2, "an empty key must not mean an open LAN");
    let ended = run(thorp(home.path()).env("THORP_KEY_FILE", "").arg("ls"));
    assert_eq!(ended.code, 2, "an empty name of a key file must not mean an open LAN");
}

#[test]
fn keys_are_long_and_never_the_same() {
    let home = home();
    let keys: Vec<String> = (0..8)
        .map(|_| {
            let ended = run(thorp(home.path()).args(["key", "new"]));
            assert_eq!((ended.code, ended.output.lines().count()), (0, 1));
            ended.output.trim_end().to_owned()
        })
        .collect();
    for (at, key) in keys.iter().enumerate() {
        assert!(!keys[..at].contains(key));
        // 128 bits are 32 hexadecimal digits, or longer as words.
        assert!(
            key.chars().filter(|c| c.is_alphanumeric()).count() >= 32,
            "too short: {} characters",
            key.len()
        );
    }
    let ended = run(thorp(home.path()).args(["key", "new", "--json"]));
    assert!(document(&ended)["key"].as_str().expect("text").len() >= 32);
}

#[test]
fn hashes_follow_from_the_bytes_alone() {
    let home = home();
    let write = |name: &str, bytes: &[u8]| {
        let path = home.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, bytes).expect("written");
    };
    // More than one read of the buffer, and not the same bytes throughout.
    let mut large: Vec<u8> =
        (0..20_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    write("folder/a", &large);
    write("folder/deep/b", b"hello, thorp\n");
    write("copy", &large);
    large[15_000_000] ^= 1;
    write("changed", &large);
    write("empty", b"");
    let id = |typed: &[&str]| {
        let ended = run(thorp(home.path()).arg("hash").args(typed));
        assert_eq!((ended.code, &*ended.errors), (0, ""), "{typed:?}");
        ended
            .output
            .lines()
            .map(|line| line.split_once("  ").expect("two columns").0.to_owned())
            .collect::<Vec<_>>()
    };
    let hello = "14a1cd02af1fa505cf725de43f4208c179d9c775cf262ff632ee054408a1c3a3";
    let folder = id(&["folder"]);
    assert_eq!(folder, [id(&["copy"])[0].clone(), hello.to_owned()]);
    assert_eq!(id(&["copy"]), id(&["copy"]));
    assert_ne!(id(&["copy"]), id(&["changed"]));
    assert_eq!(id(&["empty"]), ["679fce3e8ad23694e9158259cf02774f07eefb4119089b5c7d4a447a2fcadc75"]);
    let piped = run(thorp(home.path()).args(["hash", "-"]).write_stdin("hello, thorp\n"));
    assert_eq!(piped.output, format!("{hello}  -\n"));
    let ended = run(thorp(home.path()).args(["hash", "folder/deep", "--json"]));
    let rows = document(&ended);
    assert_eq!(
        (&rows[0]["content"], &rows[0]["bytes"], &rows[0]["path"]),
        (&hello.into(), &13.into(), &"folder/deep/b".into())
    );
}

#[test]
fn a_file_that_is_not_there_is_told_by_code_and_words() {
    let home = home();
    let ended = run(thorp(home.path()).args(["hash", "none"]));
    assert_eq!((ended.code, &*ended.output), (4, ""));
    assert!(ended.errors.starts_with("error: ") && ended.errors.contains("`none`"), "{}", ended.errors);
    let ended = run(thorp(home.path()).args(["hash", "none", "--json"]));
    assert_eq!((ended.code, &*ended.errors), (4, ""));
    assert_eq!(document(&ended)["error"]["code"], "not_found");
}

#[test]
fn completions_and_manual_know_the_commands() {
    let home = home();
    for shell in ["bash", "zsh", "fish"] {
        let ended = run(thorp(home.path()).args(["completions", shell]));
        assert_eq!((ended.code, &*ended.errors), (0, ""));
        assert!(ended.output.contains("replicas") && ended.output.contains("heal-after"), "{shell}");
    }
    let ended = run(thorp(home.path()).arg("man"));
    assert_eq!(ended.code, 0);
    assert!(ended.output.contains(".TH thorp 1"));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let home = home();
    let large = home.path().join("many");
    std::fs::create_dir(&large).expect("made");
    for number in 0..2_000 {
        std::fs::write(large.join(format!("{number:0100}")), b"x").expect("written");
    }
    for typed in
        [&["man"][..], &["completions", "zsh"], &["--help"], &["hash", "many"], &["hash", "many", "--json"]]
    {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_thorp"))
            .args(typed)
            .env_clear()
            .current_dir(home.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let mut first = [0; 1];
        child.stdout.take().expect("piped").read_exact(&mut first).expect("one byte");
        let ended = child.wait_with_output().expect("ended");
        assert_eq!(ended.status.code(), Some(0), "{typed:?}");
        assert_eq!(String::from_utf8_lossy(&ended.stderr), "", "{typed:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_result_that_cannot_be_written_is_a_failure() {
    let home = home();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("there");
    let ended = std::process::Command::new(env!("CARGO_BIN_EXE_thorp"))
        .arg("man")
        .env_clear()
        .current_dir(home.path())
        .stdout(full)
        .stderr(Stdio::piped())
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .expect("ended");
    assert_eq!(ended.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("standard output"));
}

#[test]
fn a_wrong_log_filter_is_wrong_usage() {
    let home = home();
    let ended = run(thorp(home.path()).env("THORP_LOG", "thorp=louder").args(["key", "new"]));
    assert_eq!(ended.code, 2);
    assert!(ended.errors.contains("THORP_LOG"), "{}", ended.errors);
    let ended = run(thorp(home.path()).env("THORP_LOG", "debug").args(["key", "new"]));
    assert_eq!(ended.code, 0);
}

/// A config file with every setting, in the words in which `thorp config` shows them.
const EVERY_SETTING: &str = r#"
    data_dir = "/srv/thorp"
    cluster = "house"
    key_file = "/keys/house.key"
    bind = "127.0.0.1"
    port = 9000
    peer = ["nas.local", "10.0.0.7:7000"]
    timeout = "3s"
    replicas = 4
    role = "storage"
    name = "attic"
    capacity = "500G"
    machine = "box-1"
    heal_after = "90s"
    scrub_every = "3d"
    keep_removed = "36h"
    sent_ttl = "2d"
    inbox_ttl = "30d"
    hook_timeout = "5m"
    hook_tries = 2
    hooks_at_once = 8
    channels_strict = true
    allow_run = true
    run_from = ["10.0.0.0/24", "10.1.0.9"]
    run_programs = ["/usr/bin/blender", "make"]
    run_user = "nobody"
    run_folder = "/srv/thorp/workspaces"
    http = "127.0.0.1:7000"
    http_host = ["nas.lan", "nas:8080", "https://nas.example"]
"#;

/// The settings of [`EVERY_SETTING`], with their values as a script has them and as one types them.
fn every_setting() -> Vec<(String, serde_json::Value, Vec<String>)> {
    let file: toml::Table = toml::from_str(EVERY_SETTING).expect("TOML");
    let typed = |value: &toml::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let setting = |(key, value): (String, toml::Value)| {
        let words =
            value.as_array().map_or_else(|| vec![typed(&value)], |list| list.iter().map(typed).collect());
        (key, serde_json::to_value(value).expect("JSON"), words)
    };
    file.into_iter().map(setting).collect()
}

/// The row of one setting in `thorp config --json`.
fn setting(command: &mut Command, key: &str) -> serde_json::Value {
    let ended = run(command.arg("--json"));
    assert_eq!((ended.code, ended.errors.contains("error")), (0, false), "{}", ended.errors);
    let rows = document(&ended);
    let mut rows = rows.as_array().expect("a list").iter().filter(|row| row["key"] == key);
    let row = rows.next().expect(key).clone();
    assert_eq!(rows.next(), None);
    row
}

fn row(
    key: &str,
    value: impl Into<serde_json::Value>,
    source: &str,
    from: Option<&str>,
) -> serde_json::Value {
    serde_json::json!({ "key": key, "value": value.into(), "source": source, "from": from })
}

#[test]
fn config_shows_every_setting_from_the_file_a_variable_or_an_option() {
    let home = home();
    let path = home.path().join("house.toml");
    std::fs::write(&path, EVERY_SETTING).expect("written");
    let path = path.to_str().expect("text");
    let rows = document(&run(thorp(home.path()).args(["config", "--json", "--config", path])));
    let rows = rows.as_array().expect("a list");
    assert_eq!(rows[0], row("config", path, "option", Some("--config")));
    assert_eq!(rows[1], row("key", "set", "file", Some("/keys/house.key")));
    let settings = every_setting();
    assert_eq!(rows.len(), settings.len() + 2, "a new setting needs its line in `EVERY_SETTING`: {rows:?}");
    for (key, value, words) in &settings {
        assert!(rows.contains(&row(key, value.clone(), "file", Some(path))), "{key}: {rows:?}");
        let option = format!("--{}", key.replace('_', "-"));
        let variable = format!("THORP_{}", key.to_uppercase());
        let from_variable = setting(thorp(home.path()).env(&variable, words.join(",")).arg("config"), key);
        assert_eq!(from_variable, row(key, value.clone(), "environment", Some(&variable)));
        let options = words.iter().flat_map(|word| [&option, word]);
        let from_option = setting(thorp(home.path()).arg("config").args(options), key);
        assert_eq!(from_option, row(key, value.clone(), "option", Some(&option)));
    }
}

#[test]
fn config_says_that_options_go_before_variables_the_file_and_defaults() {
    let home = home();
    let path = home.path().join(".config/thorp/config.toml");
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    let thorp = || {
        let mut command = thorp(home.path());
        command.env("XDG_CONFIG_HOME", home.path().join(".config"));
        command
    };
    let file = Some(path.to_str().expect("text"));
    assert_eq!(setting(thorp().arg("config"), "port"), row("port", 7667, "default", None));
    assert_eq!(setting(thorp().arg("config"), "heal_after"), row("heal_after", "60s", "default", None));
    assert_eq!(setting(thorp().arg("config"), "capacity"), row("capacity", (), "default", None));
    assert_eq!(setting(thorp().arg("config"), "config"), row("config", (), "default", None));

    std::fs::write(&path, "port = 9001\nheal_after = \"2m\"").expect("written");
    let config = || {
        let mut command = thorp();
        command.arg("config");
        command
    };
    assert_eq!(setting(&mut config(), "config"), row("config", file, "default", None));
    assert_eq!(setting(&mut config(), "port"), row("port", 9001, "file", file));
    assert_eq!(setting(&mut config(), "heal_after"), row("heal_after", "2m", "file", file));
    let with_variables = || {
        let mut command = thorp();
        command.env("THORP_PORT", "9002").env("THORP_HEAL_AFTER", "3m");
        command
    };
    let port = row("port", 9002, "environment", Some("THORP_PORT"));
    assert_eq!(setting(with_variables().arg("config"), "port"), port);
    let heal_after = row("heal_after", "3m", "environment", Some("THORP_HEAL_AFTER"));
    assert_eq!(setting(with_variables().arg("config"), "heal_after"), heal_after);
    for typed in [["--port", "9003", "config"], ["config", "--port", "9003"]] {
        let port = row("port", 9003, "option", Some("--port"));
        assert_eq!(setting(with_variables().args(typed), "port"), port);
    }
    let heal_after = row("heal_after", "4m", "option", Some("--heal-after"));
    assert_eq!(setting(with_variables().args(["config", "--heal-after", "4m"]), "heal_after"), heal_after);
    // A variable that is set to nothing is as good as none.
    assert_eq!(setting(config().env("THORP_PORT", ""), "port"), row("port", 9001, "file", file));
    let heal_after = row("heal_after", "2m", "file", file);
    assert_eq!(setting(config().env("THORP_HEAL_AFTER", ""), "heal_after"), heal_after);
}

#[test]
fn config_says_where_the_key_is_and_never_what() {
    let home = home();
    let path = home.path().join("house.toml");
    std::fs::write(&path, "key_file = \"house.key\"").expect("written");
    let (path, beside) = (path.to_str().expect("text"), home.path().join("house.key"));
    std::fs::write(&beside, "staple battery").expect("written");
    let beside = beside.to_str();
    let config = |typed: &[&str], variables: &[(&str, &str)]| {
        let mut command = thorp(home.path());
        command.arg("config").args(typed).envs(variables.iter().copied());
        command
    };
    let with_file = ["--config", path];
    assert_eq!(setting(&mut config(&[], &[]), "key"), row("key", (), "default", None));
    assert_eq!(setting(&mut config(&with_file, &[]), "key"), row("key", "set", "file", beside));
    assert_eq!(
        setting(&mut config(&with_file, &[]), "key_file"),
        row("key_file", beside, "file", Some(path))
    );
    // The key itself goes before the file's `key_file`.
    let secret = ("THORP_KEY", "correct horse");
    for key in ["key", "key_file"] {
        let value = (key == "key").then_some("set");
        let expected = row(key, value, "environment", Some("THORP_KEY"));
        assert_eq!(setting(&mut config(&with_file, &[secret]), key), expected);
    }
    let variable = [("THORP_KEY_FILE", "b.key")];
    assert_eq!(
        setting(&mut config(&with_file, &variable), "key"),
        row("key", "set", "environment", Some("b.key"))
    );
    let option = ["--config", path, "--key-file", "c.key"];
    assert_eq!(setting(&mut config(&option, &variable), "key"), row("key", "set", "option", Some("c.key")));
    for typed in [&with_file[..], &["--config", path, "--json"], &["-vvv"]] {
        for variables in [&[][..], &[secret]] {
            let ended = run(&mut config(typed, variables));
            assert_eq!(ended.code, 0, "{}", ended.errors);
            for shown in [&ended.output, &ended.errors] {
                assert!(!shown.contains("horse") && !shown.contains("battery"), "{shown}");
            }
        }
    }
    let ended = run(&mut config(&["--key-file", "c.key"], &[secret]));
    assert_eq!((ended.code, &*ended.output), (2, ""), "two keys");
}

#[test]
fn config_is_a_table_for_people_and_refuses_what_is_wrong() {
    let home = home();
    let path = home.path().join("some.toml");
    std::fs::write(&path, "peer = ['nas', '10.0.0.7:7000']\ntimeout = '0.5s'").expect("written");
    let mut command = thorp(home.path());
    let ended = run(command.env("THORP_CAPACITY", "2048MiB").args(["config", "--config", "some.toml"]));
    assert_eq!((ended.code, &*ended.errors), (0, ""));
    let rows: Vec<Vec<&str>> = ended.output.lines().map(|line| line.split_whitespace().collect()).collect();
    for expected in [
        &["setting", "value", "source"][..],
        &["config", "some.toml", "option", "--config"],
        &["key", "-", "default"],
        &["peer", "nas,10.0.0.7:7000", "file", "some.toml"],
        &["timeout", "500ms", "file", "some.toml"],
        &["capacity", "2GiB", "environment", "THORP_CAPACITY"],
        &["replicas", "2", "default"],
        &["scrub_every", "7d", "default"],
    ] {
        assert!(rows.iter().any(|row| row == expected), "{expected:?}: {}", ended.output);
    }
    for text in ["prot = 1", "heal_after = \"soon\""] {
        std::fs::write(&path, text).expect("written");
        let ended = run(thorp(home.path()).args(["config", "--config", "some.toml"]));
        assert_eq!((ended.code, &*ended.output), (2, ""), "{text}");
        assert!(ended.errors.contains("some.toml") && ended.errors.contains("hint: "), "{}", ended.errors);
    }
    // What it takes, `thorp up` takes as well, and the other way round.
    let ended = run(thorp(home.path()).env("THORP_ROLE", "king").arg("config"));
    assert_eq!((ended.code, &*ended.output), (2, ""), "{}", ended.errors);
}
