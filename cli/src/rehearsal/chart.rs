//! Hosts on the release over time, drawn with characters: eighths of a line, the waves below.

use groundswell_sim::rehearse::Course;

use super::text::{count, span};

/// Columns of the curve.
const COLUMNS: usize = 64;
/// Lines of the curve at most; of fewer hosts each has one.
const LINES_MAX: u32 = 8;
/// Eighths of a line, from the bottom.
const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The chart of one case. Its height is the most hosts that ran the release at once.
pub(super) fn chart(course: &Course) -> String {
    let end = course.points.last().map_or(0, |point| point.at_secs).max(course.secs);
    let column = |secs: u64| {
        let columns = u64::try_from(COLUMNS - 1).unwrap_or(0);
        let at = secs.saturating_mul(columns).checked_div(end).unwrap_or(0);
        usize::try_from(at).unwrap_or(0).min(COLUMNS - 1)
    };
    let heights = heights(course, &column);
    let lines = lines(course);
    let top = count(course.most_on);
    let side = top.chars().count().max(1);
    let mut text = String::new();
    for line in (0..lines).rev() {
        let label = match line {
            line if line == lines - 1 => top.as_str(),
            0 => "0",
            _ => "",
        };
        let cells: String = heights.iter().map(|height| cell(*height, line)).collect();
        text += &format!("{label:>side$} │{}\n", cells.trim_end());
    }
    let marks: String = marks(course, &column).into_iter().collect();
    text += &format!("{:>side$} └{marks}\n", "");
    let last = span(end);
    let gap = COLUMNS.saturating_sub(1 + last.chars().count());
    text + &format!("{:>side$}  0{:gap$}{last}\n", "", "")
}

fn lines(course: &Course) -> u32 {
    course.most_on.clamp(1, LINES_MAX)
}

/// The height of each column, in eighths of a line. Whatever is not nothing is seen.
fn heights(course: &Course, column: &impl Fn(u64) -> usize) -> Vec<u32> {
    let mut most: Vec<Option<u32>> = vec![None; COLUMNS];
    for point in &course.points {
        if let Some(cell) = most.get_mut(column(point.at_secs)) {
            *cell = Some(cell.map_or(point.on, |on| on.max(point.on)));
        }
    }
    let mut last = 0;
    let eighths = |on: u32| {
        let height = u64::from(on) * u64::from(lines(course)) * 8;
        let height = height.div_ceil(u64::from(course.most_on.max(1)));
        u32::try_from(height).unwrap_or(0)
    };
    let filled = most.into_iter().map(|on| {
        last = on.unwrap_or(last);
        eighths(last)
    });
    filled.collect()
}

fn cell(height: u32, line: u32) -> char {
    let eighths = usize::try_from(height.saturating_sub(line * 8).min(8)).unwrap_or(0);
    EIGHTHS.get(eighths).copied().unwrap_or(' ')
}

/// The line below: the last digit of each wave where it opened, a cross where it stopped.
fn marks(course: &Course, column: &impl Fn(u64) -> usize) -> Vec<char> {
    let mut line = vec!['─'; COLUMNS];
    let opened = course.waves.iter().zip(1_u32..);
    let opened = opened.filter_map(|(wave, number)| {
        let digit = char::from_digit(number % 10, 10).unwrap_or('*');
        Some((wave.opened_secs?, digit))
    });
    let stop = course.stop.as_ref().map(|stop| (stop.at_secs, '×'));
    for (secs, mark) in opened.chain(stop) {
        // Where two fall on one column, the later stands beside the earlier.
        let free = line.iter().skip(column(secs)).position(|cell| *cell == '─');
        if let Some(cell) = free.and_then(|free| line.get_mut(column(secs) + free)) {
            *cell = mark;
        }
    }
    line
}
