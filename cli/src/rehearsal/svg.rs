//! The picture of a rehearsal: one panel a case, hosts on the release over time, waves, the stop, and
//! the times in which nobody may switch.

use std::fmt::Write as _;

use groundswell_sim::rehearse::{Course, Point};

use super::text::{Answer, count, ending, span, title};
use crate::svg::{escape, open};

/// Pixels: the whole width, the curve's edges, a panel, its title, the curve's height.
const WIDTH: u64 = 900;
const LEFT: u64 = 76;
const RIGHT: u64 = 24;
const TOP: u64 = 56;
const PANEL: u64 = 304;
const HEAD: u64 = 76;
const CURVE: u64 = 176;
/// Pixels that the name of a wave needs, for each of its letters.
const LETTER: u64 = 8;
/// Ticks of the time axis at most.
const TICKS_MAX: u64 = 9;
/// Lengths between ticks that people count in, in seconds.
const STEPS_SECS: [u64; 16] = [
    1, 5, 10, 30, 60, 300, 600, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400, 604_800, 2_592_000,
    8_640_000,
];

/// Draws the answer.
pub(crate) fn draw(answer: &Answer) -> String {
    let panels = u64::try_from(answer.cases.len()).unwrap_or(0);
    let hosts = count(answer.cases.first().map_or(0, |case| case.hosts));
    let service = &answer.service;
    let head = format!("{service}: a policy rehearsed on {hosts} hosts");
    let mut out = open((WIDTH, TOP + panels * PANEL), &format!("{head}, by swell simulate"));
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "<text x=\"16\" y=\"28\" font-size=\"15\" fill=\"#111\">{}</text>\
         <text x=\"16\" y=\"46\" fill=\"#777\">virtual time from {}, seed {}</text>",
        escape(&head),
        answer.start,
        answer.seed
    );
    for (case, top) in answer.cases.iter().zip((TOP..).step_by(304)) {
        panel(&mut out, case, top);
    }
    out.push_str("</svg>\n");
    out
}

/// Where things stand in one panel.
struct Frame {
    top: u64,
    end_secs: u64,
    most: u64,
}

impl Frame {
    fn x(&self, secs: u64) -> u64 {
        LEFT + (WIDTH - LEFT - RIGHT) * secs.min(self.end_secs) / self.end_secs
    }

    fn y(&self, hosts: u32) -> u64 {
        self.bottom() - CURVE * u64::from(hosts) / self.most
    }

    fn bottom(&self) -> u64 {
        self.top + HEAD + CURVE
    }
}

fn panel(out: &mut String, course: &Course, top: u64) {
    let end = course.points.last().map_or(0, |point| point.at_secs).max(course.secs);
    let frame = Frame { top, end_secs: end.max(1), most: u64::from(course.most_on.max(1)) };
    let (line, bottom) = (top + HEAD, frame.bottom());
    let _ = writeln!(
        out,
        "<text x=\"16\" y=\"{}\" fill=\"#111\" font-weight=\"bold\">{}; hosts reached: {}</text>\
         <text x=\"16\" y=\"{}\" fill=\"#111\">{}</text>",
        top + 22,
        escape(&title(course)),
        count(course.reached),
        top + 38,
        escape(&ending(course))
    );
    for span in &course.shut {
        let (from, to) = (frame.x(span.from_secs), frame.x(span.to_secs));
        let width = to - from;
        let _ = writeln!(
            out,
            "<rect x=\"{from}\" y=\"{line}\" width=\"{width}\" height=\"{CURVE}\" fill=\"#eef0f2\"/>"
        );
    }
    curve(out, &course.points, &frame, if course.failing < course.hosts { GOOD } else { BAD });
    waves(out, course, &frame);
    if let Some(stop) = &course.stop {
        let x = frame.x(stop.at_secs);
        let _ = writeln!(
            out,
            "<line x1=\"{x}\" y1=\"{}\" x2=\"{x}\" y2=\"{bottom}\" stroke=\"#b3261e\" \
             stroke-width=\"2\"/><circle cx=\"{x}\" cy=\"{}\" r=\"4\" fill=\"#b3261e\"/>",
            line - 4,
            line - 4
        );
    }
    let (most, right) = (count(course.most_on), WIDTH - RIGHT);
    let _ = writeln!(
        out,
        "<text x=\"{0}\" y=\"{1}\" text-anchor=\"end\" fill=\"#777\">{most}</text>\
         <text x=\"{0}\" y=\"{bottom}\" text-anchor=\"end\" fill=\"#777\">0</text>\
         <line x1=\"{LEFT}\" y1=\"{bottom}\" x2=\"{right}\" y2=\"{bottom}\" stroke=\"#999\"/>",
        LEFT - 6,
        line + 5
    );
    axis(out, &frame);
}

/// Colours of a curve: its line and its area.
type Colours = (&'static str, &'static str);
const GOOD: Colours = ("#2d8655", "#cfe8da");
const BAD: Colours = ("#d64545", "#f6d5d5");

fn curve(out: &mut String, points: &[Point], frame: &Frame, (line, area): Colours) {
    let mut path = String::new();
    let mut before = frame.bottom();
    for point in points {
        let (x, y) = (frame.x(point.at_secs), frame.y(point.on));
        if y != before {
            let _ = write!(path, " {x},{before} {x},{y}");
            before = y;
        }
    }
    let (first, end, bottom) = (frame.x(0), frame.x(frame.end_secs), frame.bottom());
    let _ = writeln!(
        out,
        "<polygon points=\"{first},{bottom}{path} {end},{before} {end},{bottom}\" fill=\"{area}\"/>\n\
         <polyline points=\"{first},{bottom}{path} {end},{before}\" fill=\"none\" stroke=\"{line}\" \
         stroke-width=\"1.5\"/>"
    );
}

/// A line where each wave opened; its name where there is room for it.
fn waves(out: &mut String, course: &Course, frame: &Frame) {
    let mut free = [0, 0];
    for (wave, number) in course.waves.iter().zip(1_u32..) {
        let Some(opened) = wave.opened_secs else { continue };
        let (x, bottom) = (frame.x(opened), frame.bottom());
        let _ = writeln!(
            out,
            "<line x1=\"{x}\" y1=\"{}\" x2=\"{x}\" y2=\"{bottom}\" stroke=\"#888\" \
             stroke-dasharray=\"3 3\"/>",
            frame.top + HEAD - 4
        );
        let name = format!("{number} {}", wave.name);
        let width = u64::try_from(name.chars().count()).unwrap_or(0) * LETTER;
        let row = free.iter().position(|free| *free <= x).filter(|_| x + width <= WIDTH);
        let Some((row, end)) = row.and_then(|row| Some((row, free.get_mut(row)?))) else {
            continue;
        };
        *end = x + width;
        let y = frame.top + HEAD - 8 - 13 * u64::try_from(row).unwrap_or(0);
        let _ =
            writeln!(out, "<text x=\"{}\" y=\"{y}\" fill=\"#444\">{}</text>", x + 3, escape(&name));
    }
}

fn axis(out: &mut String, frame: &Frame) {
    let step = STEPS_SECS.iter().find(|step| frame.end_secs / *step <= TICKS_MAX);
    let step = step.or(STEPS_SECS.last()).copied().unwrap_or(1);
    let y = frame.bottom() + 18;
    for at in (0..=frame.end_secs).step_by(usize::try_from(step).unwrap_or(1)) {
        let (x, text) = (frame.x(at), span(at));
        let _ = writeln!(
            out,
            "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\" fill=\"#777\">{text}</text>"
        );
    }
}
