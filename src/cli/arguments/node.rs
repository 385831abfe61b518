//! Options of a node: `thorp up`, and `thorp config`, which shows what they would be.

use crate::cli::units::{parse_duration, parse_size};
use crate::config::{
    Given, Http, HttpHost, Lifetime, ROLES, ScrubEvery, check_hook_tries, check_hooks_at_once,
    parse_hook_timeout, parse_http, parse_http_host, parse_label, parse_lifetime, parse_machine, parse_role,
    parse_run_program, parse_run_user, parse_scrub_every,
};
use crate::types::{MachineId, Origin, Pin};
use clap::builder::{BoolishValueParser, PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Args};
use std::path::PathBuf;
use std::time::Duration;

/// Options that are settings of a node, not of commands.
#[derive(Args, Clone, Debug)]
pub struct NodeArguments {
    /// What this node does: `auto` stores and leads when it is its turn; `proxy` leads and stores
    /// nothing; `storage` leads only where nobody else can; `client` does neither [default: auto]
    #[arg(long, value_name = "ROLE", env = "THORP_ROLE", hide_env_values = true,
          value_parser = PossibleValuesParser::new(ROLES).try_map(|role| parse_role(&role)))]
    pub role: Option<Pin>,
    /// The name that others see [default: the host name]
    #[arg(long, value_name = "NAME", env = "THORP_NAME", hide_env_values = true, value_parser = parse_label)]
    pub name: Option<Box<str>>,
    /// Store at most this much, like `500G` [default: what is free, less headroom]
    #[arg(long, value_name = "SIZE", env = "THORP_CAPACITY", hide_env_values = true,
          value_parser = parse_size, allow_hyphen_values = true)]
    pub capacity: Option<u64>,
    /// Count as this machine; for several nodes on one machine that should count as different ones
    /// [default: this machine's own id]
    #[arg(long, value_name = "ID", env = "THORP_MACHINE", hide_env_values = true, value_parser = parse_machine)]
    pub machine: Option<MachineId>,
    /// Where to serve HTTP [default: port 7668 on the node's addresses, with a cluster key on loopback
    /// alone; another port if it is taken]
    #[arg(long, value_name = "ADDR:PORT|off", env = "THORP_HTTP", hide_env_values = true, value_parser = parse_http)]
    pub http: Option<Http>,
    /// A further name under which browsers ask for this machine, like `nas.lan`, or `https://nas.lan` for
    /// that of a TLS proxy in front of it; may be repeated
    #[arg(long = "http-host", value_name = "[https://]HOST[:PORT]", env = "THORP_HTTP_HOST", hide_env_values = true,
          value_delimiter = ',', action = ArgAction::Append, value_parser = parse_http_host)]
    pub http_hosts: Option<Vec<HttpHost>>,
    /// Replace the copies of a machine that has been silent this long [default: 60s]
    #[arg(long, value_name = "DURATION", env = "THORP_HEAL_AFTER", hide_env_values = true,
          value_parser = parse_duration, allow_hyphen_values = true)]
    pub heal_after: Option<Duration>,
    /// Hash every copy anew at least this often, trickling, to find what the disk has lost; `off`:
    /// only when `thorp verify` asks [default: 7d]
    #[arg(long, value_name = "DURATION|off", env = "THORP_SCRUB_EVERY", hide_env_values = true,
          value_parser = parse_scrub, allow_hyphen_values = true)]
    pub scrub_every: Option<ScrubEvery>,
    /// Keep what is removed or replaced this long, while there is room; `0s`: not at all [default: 7d]
    #[arg(long, value_name = "DURATION", env = "THORP_KEEP_REMOVED", hide_env_values = true,
          value_parser = parse_duration, allow_hyphen_values = true)]
    pub keep_removed: Option<Duration>,
    /// Keep messages that were sent this long; `off`: until they are removed [default: 24h]
    #[arg(long, value_name = "DURATION|off", env = "THORP_SENT_TTL", hide_env_values = true,
          value_parser = lifetime, allow_hyphen_values = true)]
    pub sent_ttl: Option<Lifetime>,
    /// The same for messages that came [default: off]
    #[arg(long, value_name = "DURATION|off", env = "THORP_INBOX_TTL", hide_env_values = true,
          value_parser = lifetime, allow_hyphen_values = true)]
    pub inbox_ttl: Option<Lifetime>,
    /// How long the hook of a message may run [default: 60s]
    #[arg(long, value_name = "DURATION", env = "THORP_HOOK_TIMEOUT", hide_env_values = true,
          value_parser = hook_timeout, allow_hyphen_values = true)]
    pub hook_timeout: Option<Duration>,
    /// How often a hook is tried before its message goes to `failed` [default: 3]
    #[arg(long, value_name = "N", env = "THORP_HOOK_TRIES", hide_env_values = true,
          value_parser = hook_tries, allow_negative_numbers = true)]
    pub hook_tries: Option<u32>,
    /// How many hooks run at once [default: 4]
    #[arg(long, value_name = "N", env = "THORP_HOOKS_AT_ONCE", hide_env_values = true,
          value_parser = hooks_at_once, allow_negative_numbers = true)]
    pub hooks_at_once: Option<u32>,
    /// Whether each client of a channel must show the token of its first post from then on
    /// [default: false]
    #[arg(long, value_name = "true|false", env = "THORP_CHANNELS_STRICT", hide_env_values = true,
          num_args = 0..=1, require_equals = false, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub channels_strict: Option<bool>,
    /// Let others who have the cluster key sync folders to this machine and run programs on it
    /// [default: false]
    #[arg(long, value_name = "true|false", env = "THORP_ALLOW_RUN", hide_env_values = true,
          num_args = 0..=1, require_equals = false, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub allow_run: Option<bool>,
    /// Only from there: an address, a network like `10.0.0.0/24`, or the id of a node or machine; may be
    /// repeated [default: from everywhere]
    #[arg(long, value_name = "WHO", env = "THORP_RUN_FROM", hide_env_values = true,
          value_delimiter = ',', action = ArgAction::Append, value_parser = Origin::parse)]
    pub run_from: Option<Vec<Origin>>,
    /// Only these programs: a path, or a name that is found in `PATH`; may be repeated [default: every one]
    #[arg(long, value_name = "PROGRAM", env = "THORP_RUN_PROGRAMS", hide_env_values = true,
          value_delimiter = ',', action = ArgAction::Append, value_parser = parse_run_program)]
    pub run_programs: Option<Vec<Box<str>>>,
    /// Run programs as this user, which only root can [default: as whoever starts the node]
    #[arg(long, value_name = "USER", env = "THORP_RUN_USER", hide_env_values = true, value_parser = parse_run_user)]
    pub run_user: Option<Box<str>>,
    /// Where the folders of programs are [default: `workspaces` in the data folder]
    #[arg(long, value_name = "DIR", env = "THORP_RUN_FOLDER", hide_env_values = true)]
    pub run_folder: Option<PathBuf>,
}

fn lifetime(text: &str) -> Result<Lifetime, String> {
    parse_lifetime(text, parse_duration)
}

fn hook_timeout(text: &str) -> Result<Duration, String> {
    parse_hook_timeout(text, parse_duration)
}

fn hook_tries(text: &str) -> Result<u32, String> {
    check_hook_tries(text.parse().unwrap_or(-1))
}

fn hooks_at_once(text: &str) -> Result<u32, String> {
    check_hooks_at_once(text.parse().unwrap_or(-1))
}

fn parse_scrub(text: &str) -> Result<ScrubEvery, String> {
    parse_scrub_every(text, parse_duration)
}

impl NodeArguments {
    pub(super) fn add_to(&self, given: Given) -> Given {
        let up = self.clone();
        Given {
            role: up.role,
            name: up.name,
            capacity_bytes: up.capacity,
            machine: up.machine,
            heal_after: up.heal_after,
            scrub_every: up.scrub_every,
            keep_removed: up.keep_removed,
            sent_ttl: up.sent_ttl,
            inbox_ttl: up.inbox_ttl,
            hook_timeout: up.hook_timeout,
            hook_tries: up.hook_tries,
            hooks_at_once: up.hooks_at_once,
            channels_strict: up.channels_strict,
            allow_run: up.allow_run,
            run_from: up.run_from,
            run_programs: up.run_programs,
            run_user: up.run_user,
            run_folder: up.run_folder,
            http: up.http,
            http_hosts: up.http_hosts,
            ..given
        }
    }
}
