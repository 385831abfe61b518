//! Programs left alone, lost, come back to. Nothing of them survives their end, however they were made.

use crate::process::{Process, s, wait_until};
use crate::village::Village;
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::fs;

fn two() -> Village {
    Village::closed(2, &["--allow-run"])
}

/// A program that leaves children behind in every way there is, says so, and stays. It lists their
/// numbers in a file.
const FAMILY: &str = "
    list=$1
    echo $$ > $list
    sh -c 'echo $$ >> '$list'; while :; do sleep 0.1; done' &
    setsid sh -c 'trap \"\" TERM HUP INT; echo $$ >> '$list'; while :; do sleep 0.1; done' &
    (setsid setsid sh -c 'echo $$ >> '$list'; while :; do sleep 0.1; done' &) &
    while [ $(wc -l < $list) -lt 4 ]; do sleep 0.02; done
    echo ready
    while :; do sleep 0.1; done";

fn family(village: &Village, options: &[&str]) -> (Process, BTreeSet<String>) {
    let list = village.path("family");
    let _ = fs::remove_file(&list);
    let mut args = vec!["run", "--on", "b"];
    args.extend(options);
    args.extend(["--", "sh", "-c", FAMILY, "sh", list.to_str().expect("UTF-8")]);
    let running = village.start(&args);
    wait_until(s(20), "the family is there", || {
        let said = running.stdout();
        if said == b"ready\n" { Ok(()) } else { Err(format!("{said:?} {}", running.stderr())) }
    });
    let numbers = fs::read_to_string(&list).expect("a list");
    let numbers: BTreeSet<String> = numbers.lines().map(str::to_owned).collect();
    assert_eq!(numbers.len(), 4);
    assert_eq!(living(&numbers).len(), 4, "all of them live");
    (running, numbers)
}

fn living(numbers: &BTreeSet<String>) -> Vec<String> {
    let stat = |number: &String| fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
    let lives = |number: &&String| {
        let stat = stat(number);
        !stat.is_empty() && !stat.contains(") Z ")
    };
    numbers.iter().filter(lives).cloned().collect()
}

fn wait_until_dead(numbers: &BTreeSet<String>) {
    wait_until(s(20), "nothing of it is left", || {
        let left = living(numbers);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

#[test]
fn what_a_program_leaves_behind_ends_with_it() {
    let village = two();
    let (mut running, numbers) = family(&village, &["--linger", "1s"]);
    running.signal(Signal::INT);
    running.signal(Signal::INT);
    running.wait(s(20));
    assert!(living(&numbers).is_empty(), "all had ended before it was told: {:?}", living(&numbers));
}

#[test]
fn a_program_whose_command_was_killed_ends_after_its_time() {
    let village = two();
    let (mut running, numbers) = family(&village, &["--linger", "1500ms"]);
    running.kill9();
    wait_until_dead(&numbers);
    let jobs = village.json(&["jobs", "b"]);
    assert_eq!((&jobs[0]["state"], &jobs[0]["exit_code"]), (&"signalled".into(), &143.into()), "{jobs}");
}

#[test]
fn a_node_that_is_killed_takes_its_programs_with_it() {
    let mut village = two();
    let (mut running, numbers) = family(&village, &["--linger", "500ms"]);
    village.kill9("b");
    wait_until_dead(&numbers);
    village.add("b", &[]);
    let ended = running.wait(s(60)).ended(125);
    assert!(ended.stderr.contains("node was stopped"), "{ended}");
    let jobs = village.json(&["jobs", "b"]);
    assert_eq!(jobs[0]["state"], "lost", "{jobs}");
}

#[test]
fn a_node_that_stops_ends_its_programs_in_order() {
    let mut village = two();
    let text = "trap 'echo asked; exit 6' TERM; echo ready; while :; do sleep 0.05; done";
    let mut running = village.start(&["run", "--on", "b", "--", "sh", "-c", text]);
    wait_until(
        s(20),
        "it runs",
        || if running.stdout() == b"ready\n" { Ok(()) } else { Err(running.stderr()) },
    );
    village.node("b").process.signal(Signal::TERM);
    let ended = running.wait(s(30)).ended(6);
    assert_eq!(ended.text(), "ready\nasked\n");
}

#[test]
fn a_job_is_left_alone_listed_followed_and_stopped() {
    let village = two();
    let text = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done";
    let started = village.json(&["run", "--on", "b", "--detach", "--", "sh", "-c", text]);
    let job = started["job"].as_str().expect("an id");
    assert_eq!(started["node"], "b");
    let jobs = village.json(&["jobs"]);
    assert_eq!((&jobs[0]["job"], &jobs[0]["state"]), (&job.into(), &"running".into()), "{jobs}");
    assert!(jobs[0]["command"].as_str().expect("text").starts_with("sh -c i=0"), "{jobs}");
    let said = wait_until(s(20), "it has said something", || {
        let said = village.run(&["logs", job]).ended(0).text();
        if said.contains("line 5\n") { Ok(said) } else { Err(said) }
    });
    assert!(said.starts_with("line 1\nline 2\n"), "{said}");

    // Somebody watches and goes; the job goes on.
    let mut watching = village.start(&["attach", &job[..4]]);
    let lines = said.lines().count();
    wait_until(s(20), "live output", || {
        let seen = String::from_utf8_lossy(&watching.stdout()).lines().count();
        if seen > lines + 10 { Ok(()) } else { Err(format!("{seen} lines {}", watching.stderr())) }
    });
    watching.kill9();
    assert_eq!(village.json(&["jobs"])[0]["state"], "running");
    let mut watching = village.start(&["attach", job]);
    let stopped = village.json(&["stop", job]);
    assert_eq!(stopped["exit_code"], 143, "{stopped}");
    let seen = watching.wait(s(20)).ended(143).text();
    let numbers: Vec<u32> =
        seen.lines().filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect();
    assert!(
        numbers.iter().copied().eq(1..=u32::try_from(numbers.len()).expect("few")),
        "all of them, in order"
    );
    let all = village.run(&["logs", job]).ended(0).text();
    assert_eq!(all, seen, "also afterwards");
    let unknown = village.fails(&["attach", "00000000"], 4);
    assert!(unknown.message.contains("00000000"), "{unknown:?}");
}

#[test]
fn jobs_of_before_are_there_after_a_restart() {
    let mut village = two();
    village.run(&["run", "--on", "b", "--", "sh", "-c", "echo kept; echo too >&2; exit 3"]).ended(3);
    let mut b = village.take("b");
    b.terminate();
    b.process.wait(s(20)).ended(0);
    village.add("b", &[]);
    village.settle();
    let jobs = village.json(&["jobs"]);
    assert_eq!((&jobs[0]["state"], &jobs[0]["exit_code"]), (&"exited".into(), &3.into()), "{jobs}");
    let said = village.run(&["logs", jobs[0]["job"].as_str().expect("an id")]).ended(0);
    assert_eq!((said.text(), said.stderr), ("kept\n".into(), "too\n".into()));
}

#[test]
fn two_commands_at_once_do_not_meet() {
    let village = two();
    let long = "trap 'echo first; exit 1' INT; echo ready; while :; do sleep 0.05; done";
    let mut first = village.start(&["run", "--on", "b", "--", "sh", "-c", long]);
    wait_until(s(20), "it runs", || if first.stdout() == b"ready\n" { Ok(()) } else { Err(first.stderr()) });
    let second = village.run(&["run", "--on", "b", "--", "sh", "-c", "echo second; exit 2"]).ended(2);
    assert_eq!(second.text(), "second\n");
    first.signal(Signal::INT);
    assert_eq!(first.wait(s(20)).ended(1).text(), "ready\nfirst\n");
}

#[test]
fn results_come_back_and_are_stored() {
    let village = two();
    let text = "mkdir -p out/deep; echo one > out/one.txt; echo two > out/deep/two; ln -s one.txt out/link; chmod 750 out/one.txt";
    village
        .run(&["run", "--on", "b", "--get", "out", "--keep", "results", "-n", "2", "--", "sh", "-c", text])
        .ended(0);
    let here = village.path("out");
    assert_eq!(fs::read_to_string(here.join("deep/two")).expect("fetched"), "two\n");
    assert_eq!(fs::read_link(here.join("link")).expect("fetched").to_str(), Some("one.txt"));
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(here.join("one.txt")).expect("fetched").permissions(),
    );
    assert_eq!(mode & 0o777, 0o750);
    let names: BTreeSet<String> = village.ls().into_iter().map(|row| row.name).collect();
    let wanted = ["results/out/deep/two", "results/out/link", "results/out/one.txt"];
    assert_eq!(names, wanted.map(str::to_owned).into());
    let missing = village.run(&["run", "--on", "b", "--get", "nothing", "--", "true"]).ended(4);
    assert!(missing.stderr.contains("nothing"), "{missing}");
}

#[test]
fn who_looks_away_ends_nothing() {
    let village = two();
    let text = "while :; do echo line; sleep 0.02; done";
    let started = village.json(&["run", "--on", "b", "--detach", "--", "sh", "-c", text]);
    let job = started["job"].as_str().expect("an id").to_owned();
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let command = village.command(&village.path("client"), &["logs", "-f", &job]);
    let logs = village.path("logs");
    let mut looking =
        Process::start(command, "logs -f", &logs, std::process::Stdio::null(), Some(writer.into()));
    std::io::Read::read_exact(&mut reader, &mut [0; 20]).expect("output");
    drop(reader);
    looking.wait(s(20));
    let said = village.run(&["logs", &job]).ended(0).bytes.len();
    wait_until(s(20), "it goes on", || {
        let more = village.run(&["logs", &job]).ended(0).bytes.len();
        if more > said + 20 { Ok(()) } else { Err(format!("{more} of {said} bytes")) }
    });

    // One that does not read at all keeps nobody from ending it.
    let text = "yes";
    let started = village.json(&["run", "--on", "b", "--detach", text]);
    let busy = started["job"].as_str().expect("an id").to_owned();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let command = village.command(&village.path("client"), &["logs", "-f", &busy]);
    let stuck = Process::start(command, "logs -f", &logs, std::process::Stdio::null(), Some(writer.into()));
    wait_until(s(20), "it is looked at", || {
        let jobs = village.json(&["jobs", "b"]);
        if jobs[0]["sessions"] == 1 { Ok(()) } else { Err(jobs.to_string()) }
    });
    for job in [&busy, &job] {
        assert_eq!(village.json(&["stop", job])["exit_code"], 143);
    }
    drop((stuck, reader));
}

#[test]
fn input_of_whoever_comes_back_after_its_end_is_not_asked_for() {
    let village = two();
    let text = "cat; echo ended; while :; do sleep 0.05; done";
    let mut first = village.start(&["run", "--on", "b", "--linger", "30s", "--", "sh", "-c", text]);
    wait_until(s(20), "its input has ended", || {
        if first.stdout() == b"ended\n" { Ok(()) } else { Err(first.stderr()) }
    });
    first.kill9();
    let job = village.json(&["jobs", "b"])[0]["job"].as_str().expect("an id").to_owned();
    let input = village.path("input");
    fs::write(&input, vec![b'x'; 300_000]).expect("a file");
    let command = village.command(&village.path("client"), &["attach", &job]);
    let input = fs::File::open(input).expect("a file");
    let mut second = Process::start(command, "attach", &village.path("logs"), input.into(), None);
    wait_until(s(20), "it follows", || {
        if second.stdout() == b"ended\n" { Ok(()) } else { Err(second.stderr()) }
    });
    second.signal(Signal::INT);
    let ended = second.wait(s(20)).ended(130);
    assert!(!ended.stderr.contains("lost"), "{ended}");
}

/// Whatever signal meets the process that watches over a program, the program is not left alone.
#[test]
fn the_supervisor_outlives_usual_signals() {
    let village = two();
    let text = "trap '' HUP; echo $PPID; while :; do sleep 0.05; done";
    let mut running = village.start(&["run", "--on", "b", "--linger", "1s", "--", "sh", "-c", text]);
    let supervisor = wait_until(s(20), "it runs", || {
        String::from_utf8_lossy(&running.stdout()).trim().parse::<i32>().map_err(|error| error.to_string())
    });
    let supervisor = rustix::process::Pid::from_raw(supervisor).expect("a number");
    for signal in [Signal::HUP, Signal::TERM, Signal::INT, Signal::QUIT, Signal::USR1] {
        rustix::process::kill_process(supervisor, signal).expect("it is there");
    }
    assert_eq!(village.json(&["jobs", "b"])[0]["state"], "running");
    running.signal(Signal::INT);
    running.wait(s(20)).ended(130);
}

#[test]
fn a_folder_that_was_here_keeps_its_permissions() {
    let village = two();
    let here = village.path("mine");
    fs::create_dir(&here).expect("a folder");
    let mode = |path: &std::path::Path| {
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).expect("there").permissions()) & 0o777
    };
    fs::set_permissions(&here, std::os::unix::fs::PermissionsExt::from_mode(0o751)).expect("permissions");
    let mut command = village.command(&village.path("client"), &["run", "--on", "b", "--get", ".", "--"]);
    command.args(["sh", "-c", "mkdir new; chmod 705 new; echo x > new/file"]).current_dir(&here);
    village.spawn(command, "get all").wait(s(30)).ended(0);
    assert_eq!((mode(&here), mode(&here.join("new"))), (0o751, 0o705));
}
