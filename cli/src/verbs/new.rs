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

/// The answers of the flags; what they leave open is asked, each question once.
fn answers(
    args: &NewArgs,
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> anyhow::Result<Answers> {
    let mut ask = Ask { input, output };
    let service = match &args.name {
        Some(name) => name.clone(),
        None => service(&ask.line("which service?", "--name")?)?,
    };
    let targets = match &args.targets {
        Some(text) => targets(text)?,
        None => targets(&ask.line("which hosts, by labels (\"*\" for all)?", "--targets")?)?,
    };
    let hosts = match args.hosts {
        Some(hosts) => hosts,
        None => hosts(&ask.line("how many hosts, about?", "--hosts")?)?,
    };
    let windows = windows(args, &mut ask)?;
    let approval = match args.approval {
        Some(answer) => answer == YesNo::Yes,
        None => yes(&ask.line("must someone approve (yes, no)?", "--approval")?)?,
    };
    Ok(Answers { service, targets, hosts, windows, approval })
}

struct Ask<'a, I, O> {
    input: &'a mut I,
    output: &'a mut O,
}

impl<I: BufRead, O: Write> Ask<'_, I, O> {
    fn line(&mut self, question: &str, flag: &'static str) -> anyhow::Result<String> {
        write!(self.output, "{question} ")?;
        self.output.flush()?;
        let mut line = String::new();
        io::Read::take(&mut *self.input, LINE_MAX_BYTES).read_line(&mut line)?;
        match line.trim() {
            "" => Err(Misuse::Unanswered(flag).into()),
            answer => Ok(answer.to_owned()),
        }
    }
}

fn service(text: &str) -> Result<ServiceName, Misuse> {
    text.parse().map_err(|error| misfit("--name", text, error))
}

fn targets(text: &str) -> Result<Selector, Misuse> {
    match text.trim() {
        "" => Err(misfit("--targets", text, "write \"*\" for every host")),
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
    let word = match args.windows {
        Some(word) => word,
        None => window_word(&ask.line("windows (none, one, many)?", "--windows")?)?,
    };
    let mut zones = args.zones.clone();
    if zones.is_empty() && word != WindowsWord::None {
        let line = ask.line("in which time zones, with spaces between?", "--zone")?;
        zones = line.split_whitespace().map(str::to_owned).collect();
    }
    if let Some(zone) = zones.iter().find(|zone| !zone_exists(zone)) {
        return Err(misfit("--zone", zone, "an IANA name such as Europe/Berlin").into());
    }
    let given = zones.join(" ");
    let want = match (word, zones.as_slice()) {
        (WindowsWord::None, []) => return Ok(Windows::Always),
        (WindowsWord::One, [zone]) => return Ok(Windows::One(zone.clone())),
        (WindowsWord::Many, [_, _, ..]) if zones.len() <= WINDOWS_MAX => {
            return Ok(Windows::Many(zones));
        }
        (WindowsWord::None, _) => "no zone without a window".to_owned(),
        (WindowsWord::One, _) => "one zone for one window".to_owned(),
        (WindowsWord::Many, _) => format!("2 to {WINDOWS_MAX} zones for many windows"),
    };
    Err(misfit("--zone", &given, want).into())
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
    fn each_question_is_asked_once_and_in_order() {
        let (answers, questions) =
            asked("shop\nrole=web\n400\nmany\nEurope/Berlin America/New_York\nyes\n");
        let zones = vec!["Europe/Berlin".to_owned(), "America/New_York".to_owned()];
        let want = Answers {
            service: "shop".parse().expect("a name"),
            targets: "role=web".parse().expect("a selector"),
            hosts: 400,
            windows: Windows::Many(zones),
            approval: true,
        };
        assert_eq!(answers.expect("answers"), want);
        let order = ["which service?", "which hosts", "how many", "windows", "zones", "approve"];
        let places: Vec<usize> = order.iter().filter_map(|text| questions.find(text)).collect();
        assert!(places.len() == 6 && places.is_sorted(), "{questions}");
    }

    #[test]
    fn answers_that_do_not_fit_name_their_flag() {
        let fault = |lines: &str| {
            let error = asked(lines).0.expect_err("a misfit");
            error.downcast_ref::<Misuse>().map(ToString::to_string).expect("a misuse")
        };
        let does_not = |flag: &str| format!("write a policy: {flag} does not fit: ");
        let hosts = "shop\n*\n0\n";
        assert_eq!(fault(hosts), does_not("--hosts \"0\"") + "1 to 100000");
        let word = "shop\n*\n3\nsome\n";
        assert_eq!(fault(word), does_not("--windows \"some\"") + "none, one or many");
        let zone = "shop\n*\n3\none\nEurope/Bonn\n";
        let want = does_not("--zone \"Europe/Bonn\"") + "an IANA name such as Europe/Berlin";
        assert_eq!(fault(zone), want);
        let one = "shop\n*\n3\nmany\nUTC\n";
        assert_eq!(fault(one), does_not("--zone \"UTC\"") + "2 to 32 zones for many windows");
        let approval = "shop\n*\n3\nnone\nperhaps\n";
        assert_eq!(fault(approval), does_not("--approval \"perhaps\"") + "yes or no");
        assert_eq!(fault("shop\n"), "write a policy: nobody answers; give --targets");
    }
}
