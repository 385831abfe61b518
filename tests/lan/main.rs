//! thorp on a LAN: real processes in network namespaces, one namespace a host, joined by a bridge.
//!
//! No privileges are needed where the kernel lets a user make a user namespace; `ip`, `unshare`
//! and `nsenter` are. Where a LAN cannot be made the tests say so loudly and pass, unless
//! `THORP_REQUIRE_LAN=1`, which makes that a failure.
//!
//! The binary runs itself again inside fresh namespaces (`enter`). Everything it starts lives in a
//! process namespace of its own, so the kernel ends it all when the run ends, however it ends.
//!
//! Environment: `THORP_REQUIRE_LAN=1`; `THORP_LAN_USERNS=1` (a user namespace even for root);
//! `THORP_LAN_DEADLINE=<seconds>` for the whole run; `THORP_LAN_KEEP=1` keeps the folders;
//! `THORP_BINARY=<path>` for another build; `THORP_JEPSEN_SECONDS` and `THORP_JEPSEN_SEED` for the
//! run under random faults (`jepsen`); `THORP_MESSAGES_COUNT` for the messages of `messages`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, clippy::exit)]

mod bench;
mod cluster;
mod discovery;
mod enter;
mod failures;
mod files;
mod jepsen;
mod keys;
mod measure;
mod messages;
mod network;
mod probe;
mod process;
mod run;
mod runner;

use runner::Test;
use std::process::ExitCode;

/// Every test, in the order in which they run: first what the others rest on.
const TESTS: &[Test] = &[
    Test("hosts_hear_each_others_broadcasts", probe::hosts_hear_each_others_broadcasts),
    Test("an_unplugged_host_hears_nothing_until_it_is_plugged_in", probe::unplugged_hosts_hear_nothing),
    Test("hosts_without_broadcasts_still_reach_each_other", probe::deaf_hosts_still_reach_each_other),
    Test("every_host_is_a_machine_of_its_own", probe::every_host_is_a_machine_of_its_own),
    Test("five_hosts_agree_on_one_proxy_with_no_configuration", discovery::five_hosts_agree),
    Test("one_machine_alone_is_proxy_and_storage", discovery::one_machine_alone),
    Test("a_host_on_two_lans_joins_both", discovery::two_lans),
    Test("a_named_peer_is_found_where_broadcasts_are_dropped", discovery::named_peer),
    Test("a_node_with_another_key_sees_nothing", keys::another_key_sees_nothing),
    Test("an_open_client_stays_out_of_a_keyed_cluster", keys::open_client_stays_out),
    Test("a_file_comes_back_as_it_was_put_from_three_machines", files::file_round_trip),
    Test("a_folder_with_odd_names_comes_back_as_it_was", files::folder_round_trip),
    Test("the_number_of_copies_follows_what_is_asked", files::replicas_follow),
    Test("a_dead_holder_is_replaced_and_its_return_leaves_no_surplus", failures::dead_holder),
    Test("when_the_proxy_dies_another_takes_over", failures::dead_proxy),
    Test("an_unplugged_host_is_missed_and_rejoins_without_loss", failures::unplugged_host),
    Test("both_sides_of_a_split_keep_what_was_put", failures::split),
    Test("a_get_survives_the_death_of_a_holder", failures::dead_holder_during_get),
    Test("a_put_survives_the_death_of_a_holder", failures::dead_holder_during_put),
    Test("a_program_goes_on_while_the_cable_is_out", run::cable_out),
    Test("the_checker_of_messages_finds_what_is_planted", messages::checker_finds_what_is_planted),
    Test("each_message_comes_once_in_order_whoever_is_off", messages::many_messages),
    Test("the_checker_of_random_faults_finds_what_is_planted", jepsen::checker_finds_what_is_planted),
    Test("nothing_acknowledged_is_lost_under_random_faults", jepsen::random_faults),
];

/// Figures for `docs/TESTED.md`; they run only with `--ignored`.
const MEASUREMENTS: &[Test] = &[
    Test("measure_how_long_a_takeover_takes", measure::takeover),
    Test("measure_how_long_a_healed_split_takes", measure::healed_split),
    Test("measure_messages_beside_mosquitto_and_nats", bench::compare),
    Test("measure_channels_beside_mosquitto_and_flask", bench::web::channels::compare),
    Test("measure_sync_and_run_beside_rsync_and_ssh", bench::run::compare),
    Test("measure_http_beside_nginx_and_native", bench::web::files::compare),
];

fn main() -> ExitCode {
    if let Some(code) = probe::answer().or_else(bench::programs::answer) {
        return code;
    }
    runner::run(TESTS, MEASUREMENTS)
}
