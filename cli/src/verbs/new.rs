//! `swell service new`: a first policy from a few answers, by flags or asked on the terminal. Talks to
//! no coordinator and never replaces a file.

use std::fs::OpenOptions;
use std::io::{self, BufRead, IsTerminal as _, Write};
use std::path::Path;

use anyhow::Context as _;
use groundswell_common::ServiceName;
use groundswell_common::selector::Selector;
use groundswell_rollout::calendar::zone_exists;
use groundswell_rollout::plan::PLAN_HOSTS_MAX;
use groundswell_rollout::policy::WINDOWS_MAX;
use groundswell_rollout::recipe::{Answers, Windows, policy_text};

use crate::args::{NewArgs, WindowsWord, YesNo};
use crate::context::Context;
use crate::exit::{Exit, Misuse};

/// Longest answer that is read, in bytes.
const LINE_MAX_BYTES: u64 = 4096;

/// Runs `swell service new`.
pub(crate) fn new(context: &Context, args: &NewArgs) -> anyhow::Result<Exit> {
    if let Some(file) = args.out.as_deref().filter(|file| file.symlink_metadata().is_ok()) {
        // Before anybody has answered five questions in vain.
        anyhow::bail!(
            "write the policy {}: it is there; give another file with --out",
            file.display()
        );
    }
    let answers = if io::stdin().is_terminal() {
        answers(args, &mut io::stdin().lock(), &mut io::stderr().lock())?
    } else {
        answers(args, &mut io::empty(), &mut io::sink())?
    };
    let text = policy_text(&answers);
    match &args.out {
        None => context.out.line(text.trim_end())?,
        Some(file) => {
            write_new(file, &text)?;
            let shown = file.display();
            context.out.note(format_args!("wrote {shown}; swell service apply {shown}"))?;
        }
    }
    Ok(Exit::Done)
}

fn write_new(file: &Path, text: &str) -> anyhow::Result<()> {
    let at = || format!("write the policy {}; give another file with --out", file.display());
    let mut made = OpenOptions::new().write(true).create_new(true).open(file).with_context(at)?;
    made.write_all(text.as_bytes()).and_then(|()| made.sync_all()).with_context(at)
}

/// The answers of the flags; what they leave open is asked, each question until its answer fits.
fn answers(
    args: &NewArgs,
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> anyhow::Result<Answers> {
    let mut ask = Ask { input, output };
    let service = match &args.name {
        Some(name) => name.clone(),
        None => ask.until(&Question::new("which service? (such as shop)", "--name"), service)?,
    };
    let of_targets = "which hosts, by their labels? (such as role=web, or * for every host)";
    let targets = match &args.targets {
        Some(text) => targets(text)?,
        None => ask.until(&Question::new(of_targets, "--targets"), targets)?,
    };
    let of_hosts = Question::new("about how many hosts are they?", "--hosts").or("10");
    let hosts = match args.hosts {
        Some(hosts) => hosts,
        None => ask.until(&of_hosts, hosts)?,
    };
    let windows = windows(args, &mut ask)?;
    let of_approval =
        Question::new("must somebody approve what follows the canary? (yes, no)", "--approval");
    let approval = match args.approval {
        Some(answer) => answer == YesNo::Yes,
        None => ask.until(&of_approval.or("no"), yes)?,
    };
    Ok(Answers { service, targets, hosts, windows, approval })
}

/// What is asked, by which flag it could have been said, and what an empty answer means.
struct Question {
    text: &'static str,
    flag: &'static str,
    default: Option<&'static str>,
}

impl Question {
    fn new(text: &'static str, flag: &'static str) -> Self {
        Self { text, flag, default: None }
    }

    fn or(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }
}

struct Ask<'a, I, O> {
    input: &'a mut I,
    output: &'a mut O,
}

impl<I: BufRead, O: Write> Ask<'_, I, O> {
    /// Asks until the answer fits, or nobody answers any more.
    fn until<T>(
        &mut self,
        question: &Question,
        parse: impl Fn(&str) -> Result<T, Misuse>,
    ) -> anyhow::Result<T> {
        loop {
            match question.default {
                Some(default) => write!(self.output, "{} [{default}] ", question.text)?,
                None => write!(self.output, "{} ", question.text)?,
            }
            self.output.flush()?;
            let mut line = String::new();
            let read = io::Read::take(&mut *self.input, LINE_MAX_BYTES).read_line(&mut line)?;
            let answer = match (line.trim(), question.default) {
                _ if read == 0 => return Err(Misuse::Unanswered(question.flag).into()),
                ("", Some(default)) => default,
                (answer, _) => answer,
            };
            match parse(answer) {
                Ok(parsed) => return Ok(parsed),
                Err(misuse) => writeln!(self.output, "{}", unfit(&misuse))?,
            }
        }
    }
}

/// What is wrong with an answer, for who gave it and is asked again.
fn unfit(misuse: &Misuse) -> String {
    match misuse {
        Misuse::Answer { given, want, .. } => format!("{given:?} does not fit: {want}"),
        Misuse::NeedsYes(_)
        | Misuse::NoService
        | Misuse::OtherService { .. }
        | Misuse::NoTree(_)
        | Misuse::NoRollout(_)
        | Misuse::WhichRollout(..)
        | Misuse::PolicyService(_)
        | Misuse::Release(_)
        | Misuse::Unanswered(_) => misuse.to_string(),
    }
}

fn service(text: &str) -> Result<ServiceName, Misuse> {
    text.parse().map_err(|error| misfit("--name", text, error))
}

fn targets(text: &str) -> Result<Selector, Misuse> {
    match text.trim() {
        "" => Err(misfit("--targets", text, "labels such as role=web, or * for every host")),
        "*" => Ok(Selector::default()),
        some => some.parse().map_err(|error| misfit("--targets", text, error)),
    }
}

fn hosts(text: &str) -> Result<u32, Misuse> {
    let bound = u32::try_from(PLAN_HOSTS_MAX).unwrap_or(u32::MAX);
    let count = text.parse().ok().filter(|count| (1..=bound).contains(count));
    count.ok_or_else(|| misfit("--hosts", text, format_args!("1 to {bound}")))
}

fn yes(text: &str) -> Result<bool, Misuse> {
    match text {
        "yes" | "y" => Ok(true),
        "no" | "n" => Ok(false),
        _ => Err(misfit("--approval", text, "yes or no")),
    }
}

fn windows<I: BufRead, O: Write>(
    args: &NewArgs,
    ask: &mut Ask<'_, I, O>,
) -> anyhow::Result<Windows> {
    let of_windows = Question::new(
        "when may hosts switch? (none: always, one: in the evening of one time zone, many: of several)",
        "--windows",
    );
    let word = match args.windows {
        Some(word) => word,
        None => ask.until(&of_windows.or("none"), window_word)?,
    };
    if !args.zones.is_empty() || word == WindowsWord::None {
        return Ok(in_zones(word, &args.zones)?);
    }
    let of_zones =
        Question::new("which time zones, with spaces between? (such as Europe/Berlin)", "--zone");
    ask.until(&of_zones, |line| {
        let zones: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        in_zones(word, &zones)
    })
}

fn in_zones(word: WindowsWord, zones: &[String]) -> Result<Windows, Misuse> {
    if let Some(zone) = zones.iter().find(|zone| !zone_exists(zone)) {
        return Err(misfit("--zone", zone, "an IANA name such as Europe/Berlin"));
    }
    let want = match (word, zones) {
        (WindowsWord::None, []) => return Ok(Windows::Always),
        (WindowsWord::One, [zone]) => return Ok(Windows::One(zone.clone())),
        (WindowsWord::Many, [_, _, ..]) if zones.len() <= WINDOWS_MAX => {
            return Ok(Windows::Many(zones.to_vec()));
        }
        (WindowsWord::None, _) => "no zone without a window".to_owned(),
        (WindowsWord::One, _) => "one zone for one window".to_owned(),
        (WindowsWord::Many, _) => format!("2 to {WINDOWS_MAX} zones for many windows"),
    };
    Err(misfit("--zone", &zones.join(" "), want))
}

fn window_word(text: &str) -> Result<WindowsWord, Misuse> {
    match text {
        "none" => Ok(WindowsWord::None),
        "one" => Ok(WindowsWord::One),
        "many" => Ok(WindowsWord::Many),
        _ => Err(misfit("--windows", text, "none, one or many")),
    }
}

fn misfit(flag: &'static str, given: &str, want: impl ToString) -> Misuse {
    Misuse::Answer { flag, given: given.to_owned(), want: want.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(lines: &str) -> (anyhow::Result<Answers>, String) {
        let mut output = Vec::new();
        let answers = answers(&NewArgs::default(), &mut lines.as_bytes(), &mut output);
        (answers, String::from_utf8(output).expect("text"))
    }

    #[test]
    fn each_question_is_asked_in_order_and_again_where_its_answer_does_not_fit() {
        let lines = "\nShop!\nshop\n\nrole=web\n0\n400\nalways\nmany\nUTC\nEurope/Bonn UTC\n\
                     Europe/Berlin America/New_York\nperhaps\nyes\n";
        let (answers, questions) = asked(lines);
        let zones = vec!["Europe/Berlin".to_owned(), "America/New_York".to_owned()];
        let want = Answers {
            service: "shop".parse().expect("a name"),
            targets: "role=web".parse().expect("a selector"),
            hosts: 400,
            windows: Windows::Many(zones),
            approval: true,
        };
        assert_eq!(answers.expect("answers"), want);
        let order = [
            "which service?",
            "which hosts",
            "about how many",
            "when may",
            "time zones",
            "approve",
        ];
        let places: Vec<usize> = order.iter().filter_map(|text| questions.find(text)).collect();
        assert!(places.len() == 6 && places.is_sorted(), "{questions}");
        for unfit in [
            "\"0\" does not fit: 1 to 100000",
            "\"always\" does not fit: none, one or many",
            "\"UTC\" does not fit: 2 to 32 zones for many windows",
            "\"Europe/Bonn\" does not fit: an IANA name such as Europe/Berlin",
            "\"perhaps\" does not fit: yes or no",
        ] {
            assert!(questions.contains(unfit), "{unfit}: {questions}");
        }
        assert_eq!(questions.matches("which service?").count(), 3, "{questions}");
    }

    #[test]
    fn an_empty_answer_takes_what_stands_in_brackets() {
        let answers = asked("shop\n*\n\n\n\n").0.expect("answers");
        assert_eq!((answers.hosts, answers.approval), (10, false));
        assert_eq!(answers.windows, Windows::Always);
    }

    #[test]
    fn where_nobody_answers_the_flag_is_named() {
        let error = asked("shop\n").0.expect_err("nobody answers");
        assert_eq!(error.to_string(), "write a policy: nobody answers; give --targets");
        // What a flag says is not asked again.
        let args = NewArgs { targets: Some("role=".to_owned()), ..NewArgs::default() };
        let error = answers(&args, &mut "shop\n".as_bytes(), &mut Vec::new());
        let error = error.expect_err("a misfit").to_string();
        assert!(error.starts_with("write a policy: --targets \"role=\" does not fit"), "{error}");
    }

    #[test]
    fn a_file_that_is_there_is_not_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("shop.toml");
        write_new(&file, "first").expect("it is new");
        assert!(write_new(&file, "second").is_err());
        assert_eq!(std::fs::read_to_string(&file).expect("it is there"), "first");
    }
}
