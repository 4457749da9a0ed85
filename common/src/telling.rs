//! The one line of a failure's text that tells its cause: the reason, and of what the service printed the line that
//! says most.

/// What stands between the reason of a failure and what the service printed before it.
const LAST_OUTPUT: &str = "; its last output:";

/// What systemd says of every unit that fails, whatever the cause.
const OF_EVERY_FAILURE: [&str; 12] = [
    "Failed with result",
    "Failed to start ",
    "ain process exited",
    "ontrol process exited",
    "Scheduled restart job",
    "Start request repeated too quickly",
    "Deactivated successfully",
    "Consumed ",
    "Starting ",
    "Started ",
    "Stopping ",
    "Stopped ",
];

/// The reason of a failure, without what the service printed.
#[must_use]
pub fn reason(why: &str) -> &str {
    let line = why.split(LAST_OUTPUT).next().unwrap_or_default();
    line.lines().next().unwrap_or_default().trim()
}

/// Of what a service printed before it failed, the last line that says more than that it failed; where there is
/// none, the last.
#[must_use]
pub fn telling_line(why: &str) -> Option<&str> {
    let (_, output) = why.split_once(LAST_OUTPUT)?;
    let mut lines = output.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    lines.clone().find(|line| tells(line)).or_else(|| lines.next())
}

/// Both as one line.
#[must_use]
pub fn one_line(why: &str) -> String {
    match telling_line(why) {
        Some(line) => format!("{}; it said last: {line}", reason(why)),
        None => reason(why).to_owned(),
    }
}

fn tells(line: &str) -> bool {
    // What the agent itself adds of how a unit ended.
    let ended = line.split_once(": ").is_some_and(|(unit, how)| {
        let is_unit = !unit.contains(' ') && unit.ends_with(".service");
        is_unit && how.contains(", status ") && !how.contains('/')
    });
    !ended && !OF_EVERY_FAILURE.iter().any(|words| line.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_names_the_cause_is_told_and_not_that_the_unit_failed() {
        let text = "RestartUnit shop.service: the job ended as \"failed\"; its last output:\n\
                    Starting shop.service - Shop...\n\
                    shop.service: Failed to run 'start' task: No space left on device\n\
                    shop.service: Failed with result 'resources'.\n\
                    Failed to start shop.service - Shop.\n\
                    shop.service: resources, status 0\n";
        assert_eq!(
            one_line(text),
            "RestartUnit shop.service: the job ended as \"failed\"; it said last: shop.service: Failed to run \
             'start' task: No space left on device"
        );
        let exec =
            "shop.service: Failed at step EXEC spawning /opt/shop: No such file or directory";
        let text = format!("no; its last output:\n{exec}\nshop.service: exit-code, status 203\n");
        assert_eq!(telling_line(&text), Some(exec));
        // Where nothing else was said, that.
        assert_eq!(
            one_line("no; its last output:\nshop.service: x, status 1"),
            "no; it said last: shop.service: x, status 1"
        );
        assert_eq!(one_line("no; its last output:\n"), "no");
        assert_eq!(one_line("disk full\nmore"), "disk full");
        assert_eq!((reason(""), telling_line("")), ("", None));
    }
}
