//! A screen, drawn.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::screen::Screen;
use crate::print;

/// The smallest window in which all of it has room.
const LEAST: (u16, u16) = (60, 20);

/// A second's bytes as a bar.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Lines above the lists.
const HEAD: u16 = 7;

/// Draws a screen.
pub(super) fn draw(screen: &Screen, frame: &mut Frame<'_>, is_colored: bool) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text = format!(
            "{} x {} is too small to show the run: it wants {} x {}. The run goes on.",
            area.width, area.height, LEAST.0, LEAST.1
        );
        let text = Paragraph::new(text).wrap(ratatui::widgets::Wrap { trim: true });
        return frame.render_widget(text, area);
    }
    let pen = Pen { is_colored, width: usize::from(area.width) };
    let areas =
        Layout::vertical([Constraint::Length(HEAD), Constraint::Min(0), Constraint::Length(1)]);
    let [head, lists, foot] = areas.areas::<3>(area);
    frame.render_widget(Paragraph::new(pen.head(screen)), head);
    frame.render_widget(Paragraph::new(pen.lists(screen, lists)), lists);
    frame.render_widget(Paragraph::new(pen.foot(screen)), foot);
}

/// How it is written.
struct Pen {
    is_colored: bool,
    width: usize,
}

impl Pen {
    fn colored(&self, text: impl Into<String>, color: Color) -> Span<'static> {
        let style = if self.is_colored { Style::new().fg(color) } else { Style::new() };
        Span::styled(text.into(), style)
    }

    fn bold(text: impl Into<String>) -> Span<'static> {
        Span::styled(text.into(), Style::new().add_modifier(Modifier::BOLD))
    }

    fn head(&self, screen: &Screen) -> Vec<Line<'static>> {
        let share = share(screen);
        let over = screen.over.families;
        let said = format!(" {:>3.0} %", share * 100.0);
        let room = self.width.saturating_sub(said.len() + 2);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "from none to all of a line"
        )]
        let full = (share * room as f64) as usize;
        let bar = format!("[{}{}]", "#".repeat(full), "-".repeat(room - full.min(room)));
        let is_paused = screen.settings.is_some_and(|settings| settings.is_paused);
        let state = match () {
            () if screen.is_stopping => "stopping",
            () if is_paused => "paused",
            () if screen.halted.is_some() => "begins no more",
            () => "runs",
        };
        let failures = screen.failures();
        let numbers = Line::from(vec![
            Span::raw(format!("families  {} active, ", screen.active.len())),
            self.colored(format!("{} done", screen.done), Color::Green),
            Span::raw(match screen.known {
                0 => String::new(),
                known => format!(" ({known} before)"),
            }),
            Span::raw(", "),
            match failures {
                0 => Span::raw("0 failed"),
                count => self.colored(format!("{count} failed"), Color::Red),
            },
            Span::raw(format!(", {} left", screen.left())),
        ]);
        vec![
            Line::from(vec![
                Self::bold(format!("run {}: {state}", screen.run)),
                Span::raw(format!(
                    ", {over} of {} families over in {}",
                    screen.all.families,
                    time(screen.now.as_secs_f64())
                )),
            ]),
            Line::from(vec![self.colored(bar, Color::Green), Span::raw(said)]),
            numbers,
            Line::raw(self.bytes(screen)),
            Line::raw(left(screen)),
            Line::raw(settings(screen)),
            match &screen.halted {
                Some(why) => Line::from(self.colored(cut_end(why, self.width), Color::Red)),
                None => Line::raw(""),
            },
        ]
    }

    fn bytes(&self, screen: &Screen) -> String {
        let (done, all) = (print::size(screen.over.bytes), print::size(screen.all.bytes));
        let mut text = format!("bytes     {done} of {all}");
        if let Some(rate) = screen.rate() {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "three digits are shown"
            )]
            let rate = rate as u64;
            text.push_str(&format!(", {}/s ", print::size(rate)));
        }
        let history: Vec<u64> = screen.history().collect();
        let most = history.iter().copied().max().unwrap_or(0).max(1);
        let room = self.width.saturating_sub(text.chars().count() + 1);
        let shown = history.iter().skip(history.len().saturating_sub(room));
        let bar = |bytes: &u64| {
            let place = u128::from(*bytes) * 7 / u128::from(most);
            BARS.get(usize::try_from(place).unwrap_or(0)).copied().unwrap_or('▁')
        };
        text.extend(shown.map(bar));
        text
    }

    /// Devices, what is active, what failed and what commands said last, as much of each as there is room for.
    fn lists(&self, screen: &Screen, area: Rect) -> Vec<Line<'static>> {
        let titles = if screen.said.is_empty() { 3 } else { 4 };
        let room = usize::from(area.height).saturating_sub(titles);
        let failed = screen.failed.len().min(room / 3);
        let devices = screen.devices.len().min(room / 3);
        let said = screen.said.len().min(room / 4);
        let active = room.saturating_sub(failed + devices + said);
        let mut lines = self.list(
            format!("{:<14}{:>8}{:>8}{:>8}", "device", "active", "left", "over"),
            devices,
            screen.devices.iter().map(|(device, load)| {
                let name = format!("{}:{}", rustix::fs::major(*device), rustix::fs::minor(*device));
                Line::raw(format!("{name:<14}{:>8}{:>8}{:>8}", load.active, load.left, load.over))
            }),
        );
        lines.extend(self.list(
            "active".into(),
            active,
            screen.active.iter().map(|(number, it)| {
                let since = time(screen.now.saturating_sub(it.since).as_secs_f64());
                let images = match it.images {
                    1 => String::new(),
                    count => format!(" of {count}"),
                };
                let text = format!("family {number}{images}, {}, {since}: ", it.strategy);
                let rest = self.width.saturating_sub(text.chars().count());
                Line::raw(text + &cut_start(&it.name, rest))
            }),
        ));
        lines.extend(self.list(
            "failed".into(),
            failed,
            screen.failed.iter().map(|(cause, it)| {
                let text = format!("{} {cause}, last ", it.count);
                let rest = self.width.saturating_sub(text.chars().count());
                Line::from(vec![self.colored(text, Color::Red), Span::raw(cut_end(&it.last, rest))])
            }),
        ));
        if !screen.said.is_empty() {
            let last = screen.said.len().saturating_sub(said);
            let shown: Vec<_> = screen.said.iter().skip(last).collect();
            let shown = shown.into_iter().map(|line| Line::raw(cut_end(line, self.width)));
            lines.extend(self.list("commands".into(), said, shown));
        }
        lines
    }

    /// A list under its title; where it is longer than there is room, its last line says so.
    fn list(
        &self,
        title: String,
        room: usize,
        lines: impl ExactSizeIterator<Item = Line<'static>>,
    ) -> Vec<Line<'static>> {
        let count = lines.len();
        let mut all = vec![Self::bold(title).into()];
        match count {
            0 => {}
            count if count <= room => all.extend(lines),
            _ => {
                let shown = room.saturating_sub(1);
                all.extend(lines.take(shown));
                if room > 0 {
                    let more = format!("and {} more", count - shown);
                    all.push(Line::from(self.colored(more, Color::DarkGray)));
                }
            }
        }
        all
    }

    fn foot(&self, screen: &Screen) -> Line<'static> {
        if screen.asks {
            let text = "Stop? What was begun is taken back or ended. y stops, n does not";
            return Line::from(self.colored(cut_end(text, self.width), Color::Yellow));
        }
        let text = match screen.is_stopping {
            true => "stops: what was begun is taken back or ended".into(),
            false => {
                let is_paused = screen.settings.is_some_and(|settings| settings.is_paused);
                let pause = if is_paused { "goes on" } else { "pauses" };
                format!("p {pause}   + - jobs   ] [ per device   q stops")
            }
        };
        Line::raw(text)
    }
}

/// How much of it is over, 0 to 1: by bytes, or by families where there are none.
fn share(screen: &Screen) -> f64 {
    let (done, all) = match screen.all.bytes {
        0 => (screen.over.families, screen.all.families),
        bytes => (screen.over.bytes, bytes),
    };
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let share = done as f64 / all.max(1) as f64;
    share.clamp(0.0, 1.0)
}

fn left(screen: &Screen) -> String {
    let [least, most] = screen.expected().map(time);
    match least == most {
        true => format!("time left about {least}"),
        false => format!("time left {least} to {most}"),
    }
}

fn settings(screen: &Screen) -> String {
    let Some(settings) = screen.settings else { return String::new() };
    let rate = match settings.rate {
        Some(rate) => format!("at most {}/s", print::size(rate)),
        None => "no limit of the rate".into(),
    };
    format!("jobs {}, per device {}, {rate}", settings.jobs, settings.per_device)
}

/// Seconds for people: two units at most.
fn time(seconds: f64) -> String {
    let seconds = Duration::try_from_secs_f64(seconds).map_or(u64::MAX, |it| it.as_secs());
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Columns that a text takes.
fn columns(text: &str) -> usize {
    Span::raw(text).width()
}

/// The end of a text that has room in so many columns: names differ in their ends.
fn cut_start(text: &str, room: usize) -> String {
    if columns(text) <= room {
        return text.to_owned();
    }
    let mut starts = text.char_indices().map(|(at, _)| at);
    let fits = |at: &usize| columns(&text[*at..]) < room;
    starts.find(fits).map_or_else(String::new, |at| format!("…{}", &text[at..]))
}

/// The start of a text that has room in so many columns.
fn cut_end(text: &str, room: usize) -> String {
    if columns(text) <= room {
        return text.to_owned();
    }
    let ends = text.char_indices().map(|(at, _)| at).rev();
    let fits = |at: &usize| columns(&text[..*at]) < room;
    ends.into_iter().find(fits).map_or_else(String::new, |at| format!("{}…", &text[..at]))
}
