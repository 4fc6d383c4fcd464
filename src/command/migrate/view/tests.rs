//! Screens as text, and what keys ask for.

use std::time::Duration;

use calve_migrate::{Cause, Event, Outcome, Settings};
use calve_plan::{
    Damaged, Family, Head, Image, Kept, PathText, Plan, Rate, Stamp, Strategy, Total, Way, Wishes,
};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;

use super::draw;
use super::screen::{Screen, Wish};

const SETTINGS: Settings = Settings { is_paused: false, jobs: 2, per_device: 2, rate: None };

fn family(number: u64, path: &str, device: u64) -> Family {
    let image = |order| Image {
        family: number,
        order,
        of: 2,
        path: PathText(path.into()),
        strategy: Strategy::Convert,
        reason: String::new(),
        class: "v1".into(),
        format: Some("qcow".into()),
        packed: false,
        encrypted: false,
        virtual_size: None,
        dialect: None,
        producer: None,
        stamp: Stamp { device, inode: 1, size: 5 << 20, modified: 1 },
        base: None,
        base_order: None,
        base_format: None,
        base_moved: false,
        read: 1,
        write: 1,
        extra: 1,
        seconds: [5.0, 20.0],
    };
    Family { number, images: vec![image(1), image(2)] }
}

/// Thirty families of two images on two devices.
fn plan() -> Plan {
    let wishes = Wishes {
        way: Way::Convert,
        damaged: Damaged::Leave,
        kept: Kept::Beside,
        max_extra: None,
        window: None,
        rate: Rate::default(),
    };
    let head = Head { version: 1, catalogue: PathText("/c".into()), scan: 1, wishes };
    let path = |number: u64| match number {
        2 => "/srv/\u{1b}[2J\u{202e}hostile\n.img".to_owned(),
        _ => format!("/srv/images/of/customers/rack-7/customer-{number:04}/the/system/disk.img"),
    };
    let families = (1..=30).map(|number| family(number, &path(number), 0x801 + number % 2 * 16));
    Plan { head, families: families.collect(), rooms: Vec::new(), total: Total::default() }
}

/// A run that is half over: one family was done before, and two failed.
fn half(plan: &Plan) -> Screen {
    let mut screen = Screen::new(plan, 3);
    let begin = |screen: &mut Screen, place: usize| {
        screen.take(&Event::Began { family: &plan.families[place] });
    };
    let end = |screen: &mut Screen, place: usize, outcome| {
        screen.take(&Event::Ended { family: &plan.families[place], outcome, seconds: 1.0 });
    };
    screen.tick(Duration::ZERO, SETTINGS);
    for place in 2..16 {
        begin(&mut screen, place);
        screen.tick(Duration::from_secs(5 * (place as u64 - 1)), SETTINGS);
        let outcome = match place {
            2 => Outcome::Known,
            5 | 9 => Outcome::Failed {
                is_open: false,
                is_stuck: false,
                cause: Cause::NoSpace,
                problem: "/srv/\u{1b}]0;title\u{7}: no room, and a long line about it".into(),
            },
            _ => Outcome::Done { missing: 0 },
        };
        end(&mut screen, place, outcome);
    }
    begin(&mut screen, 0);
    begin(&mut screen, 1);
    screen.tick(Duration::from_secs(79), SETTINGS);
    screen
}

/// The screen in a window of this size, as text without spaces at the ends of lines; and whether
/// there is any colour in it.
fn shown(screen: &Screen, (width, height): (u16, u16), is_colored: bool) -> (String, bool) {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("memory");
    terminal.draw(|frame| draw::draw(screen, frame, is_colored)).expect("memory");
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for line in buffer.content().chunks(usize::from(width)) {
        let line: String = line.iter().map(|cell| cell.symbol()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    (text, buffer.content().iter().any(|cell| cell.fg != Color::Reset))
}

const SMALL: &str = r"run 3: runs, 14 of 30 families over in 1 min 19 s
[########################----------------------------]  47 %
families  2 active, 11 done (1 before), 2 failed, 14 left
bytes     140 MiB of 300 MiB, 1.39 MiB/s ▁▁▁▁█▁▁▁▁█▁▁▁▁▁▁▁▁
time left about 1 min 54 s
jobs 2, per device 2, no limit of the rate

device          active    left    over
8:1                  1       7       7
8:17                 1       7       7
active
family 1 of 2, convert, 9 s: …tomer-0001/the/system/disk.img
family 2 of 2, convert, 9 s: …\u{1b}[2J\u{202e}hostile\n.img
failed
2 no-space, last family 10: /srv/\u{1b}]0;title\u{7}: no ro…




p pauses   + - jobs   ] [ per device   q stops
";

const LARGE: &str = r"run 3: runs, 14 of 30 families over in 1 min 19 s
[####################################################------------------------------------------------------------]  47 %
families  2 active, 11 done (1 before), 2 failed, 14 left
bytes     140 MiB of 300 MiB, 1.39 MiB/s ▁▁▁▁▁█▁▁▁▁█▁▁▁▁█▁▁▁▁▁▁▁▁▁█▁▁▁▁█▁▁▁▁█▁▁▁▁█▁▁▁▁█▁▁▁▁█▁▁▁▁▁▁▁▁
time left about 1 min 54 s
jobs 2, per device 2, no limit of the rate

device          active    left    over
8:1                  1       7       7
8:17                 1       7       7
active
family 1 of 2, convert, 9 s: /srv/images/of/customers/rack-7/customer-0001/the/system/disk.img
family 2 of 2, convert, 9 s: /srv/\u{1b}[2J\u{202e}hostile\n.img
failed
2 no-space, last family 10: /srv/\u{1b}]0;title\u{7}: no room, and a long line about it
























p pauses   + - jobs   ] [ per device   q stops
";

#[test]
fn a_screen_says_how_far_a_run_is_in_any_window_that_is_large_enough() {
    let plan = plan();
    let screen = half(&plan);
    let small = shown(&screen, (60, 20), true);
    assert_eq!(small.0, SMALL, "\n{}", small.0);
    assert!(small.1);
    let large = shown(&screen, (120, 40), false);
    assert_eq!(large.0, LARGE, "\n{}", large.0);
    assert!(!large.1, "colours where nobody wants any");
    for size in [(60, 20), (61, 21), (80, 24), (120, 40), (300, 90)] {
        let (text, _) = shown(&screen, size, true);
        assert!(!text.chars().any(|c| c != '\n' && (c.is_control() || c == '\u{202e}')), "{text}");
        assert!(text.contains("run 3") && text.contains("q stops"), "{text}");
    }
}

#[test]
fn a_window_that_is_too_small_is_told_so() {
    let plan = plan();
    let screen = half(&plan);
    for size in [(59, 20), (60, 19), (20, 4), (1, 1)] {
        let (text, _) = shown(&screen, size, true);
        assert!(!text.contains("families"), "{text}");
        let is_told = text.replace('\n', " ").contains("too small");
        assert!(is_told || size == (1, 1), "{text}");
    }
}

#[test]
fn lists_that_have_no_room_say_how_much_is_left_out() {
    let plan = plan();
    let mut screen = Screen::new(&plan, 1);
    screen.tick(Duration::ZERO, SETTINGS);
    plan.families.iter().for_each(|family| screen.take(&Event::Began { family }));
    let (text, _) = shown(&screen, (60, 20), true);
    let listed = text.lines().filter(|line| line.starts_with("family ")).count();
    let told = format!("and {} more", 30 - listed);
    assert!(listed > 0 && text.contains(&told), "{text}");
}

#[test]
fn what_is_left_is_a_range_and_nothing_at_the_end() {
    let plan = plan();
    let mut screen = Screen::new(&plan, 1);
    screen.tick(Duration::ZERO, SETTINGS);
    // What the plan expects, for two at once.
    assert_eq!(screen.expected(), [150.0, 600.0]);
    for (place, family) in (1..).zip(&plan.families) {
        screen.take(&Event::Began { family });
        screen.tick(Duration::from_secs(2 * place), SETTINGS);
        let outcome = Outcome::Done { missing: 0 };
        screen.take(&Event::Ended { family, outcome, seconds: 2.0 });
        let [least, most] = screen.expected();
        let expected = 60.0 - 2.0 * f64::from(u32::try_from(place).expect("small"));
        assert!(
            (least - expected).abs() < 0.01 && (most - expected).abs() < 0.01,
            "{least} {most}"
        );
    }
    assert_eq!(screen.expected(), [0.0, 0.0]);
    assert_eq!((screen.left(), screen.done), (0, 30));
    // Nothing active: time that goes by is no time that it took.
    let rate = screen.rate();
    screen.tick(Duration::from_secs(10_000), SETTINGS);
    assert_eq!(screen.rate(), rate);
}

#[test]
fn keys_ask_for_what_a_socket_takes_and_a_stop_is_asked_for_twice() {
    let mut screen = half(&plan());
    let word = |word, value: Option<&str>| Some(Wish::Word(word, value.map(str::to_owned)));
    assert_eq!(screen.press('p'), word("pause", None));
    assert_eq!(screen.press('+'), word("jobs", Some("3")));
    assert_eq!(screen.press('-'), word("jobs", Some("1")));
    assert_eq!(screen.press(']'), word("per-device", Some("3")));
    assert_eq!(screen.press('x'), None);
    let settings = Settings { is_paused: true, jobs: 1, ..SETTINGS };
    screen.tick(Duration::from_secs(80), settings);
    assert_eq!(screen.press('p'), word("resume", None));
    // Which the socket refuses, and so nothing changes.
    assert_eq!(screen.press('-'), word("jobs", Some("0")));
    assert_eq!(super::control::change(settings, "jobs", Some("0")), None);
    for (key, expected) in [('n', None), ('p', None), ('y', Some(Wish::Stop))] {
        assert_eq!(screen.press('y'), None, "nothing was asked");
        assert_eq!(screen.press('q'), None);
        assert!(shown(&screen, (60, 20), false).0.contains("Stop?"));
        assert_eq!(screen.press(key), expected, "{key}");
    }
    assert!(shown(&screen, (60, 20), false).0.contains("stopping"));
}
