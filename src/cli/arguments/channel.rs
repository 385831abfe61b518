//! What can be typed after `thorp channel`.

use super::help;
use crate::cli::units::parse_duration;
use crate::config::parse_label;
use crate::limits::CHANNEL_KEY_BYTES_MAX;
use crate::types::{ChannelKey, ClientToken};
use clap::{Args, Subcommand};
use std::time::Duration;

/// `thorp channel`.
#[derive(Args, Clone, Debug)]
pub struct ChannelArguments {
    /// What to do with channels.
    #[command(subcommand)]
    pub command: ChannelCommand,
}

/// What to do with channels.
#[derive(Clone, Debug, Subcommand)]
pub enum ChannelCommand {
    /// Post an object, and print those of the others
    #[command(after_help = help::CHANNEL_EXAMPLES)]
    Post(ChannelPostArguments),
    /// Print what everybody has posted
    #[command(after_help = help::CHANNEL_EXAMPLES)]
    Get(ChannelGetArguments),
    /// Print what is posted from now on, one event a line, until Ctrl-C
    #[command(after_help = help::CHANNEL_EXAMPLES)]
    Follow(ChannelFollowArguments),
}

/// `thorp channel post`.
#[derive(Args, Clone, Debug)]
pub struct ChannelPostArguments {
    /// Which channel; it is there as long as somebody posts
    #[arg(value_name = "KEY", value_parser = channel_key)]
    pub channel: ChannelKey,
    /// A JSON object; without a `client_id` it gets this machine's name as one
    #[arg(value_name = "JSON|@FILE|-")]
    pub body: String,
    /// In this channel, clients are gone so long after their last post, if this is its first [default: 1s]
    #[arg(long, value_name = "DURATION", env = "THORP_EXPIRE", hide_env_values = true,
          value_parser = parse_duration, allow_hyphen_values = true)]
    pub expire: Option<Duration>,
    /// The `client_id` of an object that has none [default: the host name]
    #[arg(long, value_name = "NAME", env = "THORP_NAME", hide_env_values = true, value_parser = parse_label)]
    pub name: Option<Box<str>>,
    /// Prove to be that client by the token that its first post got
    #[arg(long, value_name = "TOKEN", env = "THORP_CLIENT_TOKEN", hide_env_values = true, value_parser = client_token)]
    pub client_token: Option<ClientToken>,
}

/// `thorp channel get`.
#[derive(Args, Clone, Debug)]
pub struct ChannelGetArguments {
    /// Which channel
    #[arg(value_name = "KEY", value_parser = channel_key)]
    pub channel: ChannelKey,
}

/// `thorp channel follow`.
#[derive(Args, Clone, Debug)]
pub struct ChannelFollowArguments {
    /// Which channel
    #[arg(value_name = "KEY", value_parser = channel_key)]
    pub channel: ChannelKey,
}

fn channel_key(text: &str) -> Result<ChannelKey, String> {
    let rule = || format!("1 to {CHANNEL_KEY_BYTES_MAX} bytes without `/` and control characters");
    ChannelKey::parse(text).ok_or_else(rule)
}

fn client_token(text: &str) -> Result<ClientToken, String> {
    ClientToken::parse(text).ok_or_else(|| "a token has 32 hexadecimal digits".to_owned())
}
