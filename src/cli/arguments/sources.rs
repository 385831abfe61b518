//! Which settings were given, and whether by an option or by its variable. Pure.
//!
//! Invariant: it says of a setting what [`Arguments::given`](super::Arguments::given) has of it:
//! both follow from one parse.

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use std::collections::BTreeMap;

/// Where a value on the command line came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// From this option, as it is typed.
    Option(String),
    /// From this variable.
    Variable(String),
}

/// The sources of all options that have a value, by their long name.
#[derive(Clone, Debug, Default)]
pub struct Sources(BTreeMap<String, Source>);

impl Sources {
    /// What the parser knows of the command that was typed. `command` has parsed `matches`.
    #[must_use]
    pub fn new(command: &Command, matches: &ArgMatches) -> Sources {
        // Options of every command have been handed down to the one that was typed.
        let typed = matches.subcommand();
        if let Some((command, matches)) =
            typed.and_then(|(name, below)| Some((command.find_subcommand(name)?, below)))
        {
            return Sources::new(command, matches);
        }
        let named = command.get_arguments().filter_map(|argument| {
            let long = argument.get_long()?;
            let source = match matches.value_source(argument.get_id().as_str())? {
                ValueSource::CommandLine => Source::Option(format!("--{long}")),
                ValueSource::EnvVariable => {
                    Source::Variable(argument.get_env()?.to_string_lossy().into_owned())
                }
                _ => return None,
            };
            Some((long.to_owned(), source))
        });
        Sources(named.collect())
    }

    /// Where the setting of this key came from; `None`: neither an option nor a variable gave it.
    #[must_use]
    pub fn of(&self, key: &str) -> Option<&Source> {
        self.0.get(&key.replace('_', "-"))
    }
}
