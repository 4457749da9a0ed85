//! How the command line is read, and what is said where it cannot be.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write as _};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser as _};

use crate::args::Cli;
use crate::exit::Exit;
use crate::told::Told;

/// Reads the command line; prints help, version or the error and ends the process where it must.
pub(crate) fn parse() -> Cli {
    let words: Vec<OsString> = env::args_os().collect();
    Cli::try_parse_from(&words).unwrap_or_else(|error| {
        if !error.use_stderr() || !words.iter().any(|word| word == "--json") {
            let told = error.print().and_then(|()| tip(&error).map_or(Ok(()), |tip| say(&tip)));
            // Help that nobody reads any more is no failure; the code is the same either way.
            drop(told);
            std::process::exit(error.exit_code());
        }
        let text = error.render().to_string();
        let told = Told::plain(Exit::Usage, text.trim_start_matches("error: ").trim_end());
        drop(say(&told.json()));
        std::process::exit(error.exit_code())
    })
}

fn say(line: &str) -> io::Result<()> {
    writeln!(io::stderr().lock(), "{line}")
}

/// Where a verb is, that was looked for at the top.
fn tip(error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return None;
    }
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else {
        return None;
    };
    let command = Cli::command();
    let verb =
        |noun: &clap::Command| noun.find_subcommand(word).map(|_| noun.get_name().to_owned());
    let nouns: Vec<String> = command
        .get_subcommands()
        .filter_map(verb)
        .map(|noun| format!("'swell {noun} {word}'"))
        .collect();
    match word.as_str() {
        "version" => Some("\n  tip: 'swell --version'".to_owned()),
        _ if nouns.is_empty() => None,
        _ => Some(format!("\n  tip: {}", nouns.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_that_stands_under_a_noun_is_pointed_to() {
        let tip = |word: &str| {
            let error = Cli::try_parse_from(["swell", word, "shop"]).expect_err("no such verb");
            super::tip(&error).unwrap_or_default()
        };
        assert_eq!(tip("retry"), "\n  tip: 'swell rollout retry'");
        assert_eq!(tip("clear"), "\n  tip: 'swell host clear', 'swell release clear'");
        assert_eq!(tip("version"), "\n  tip: 'swell --version'");
        assert_eq!(tip("frob"), "");
        for verb in ["pause", "resume", "promote", "watch", "show", "halt", "revert"] {
            assert!(Cli::try_parse_from(["swell", verb, "shop"]).is_ok(), "{verb}");
        }
    }
}
