//! Diagnostics as text, with excerpts of the source drawn by `ariadne`.
//!
//! This is the only module that knows the renderer. It is given a few lines of text, made harmless: what it would
//! take for line ends or cannot measure is replaced, so that its lines are ours and its offsets, which count
//! characters, can be computed from our byte offsets.

use crate::diagnostic::{Diagnostic, Related, Span, TraceItem};
use ariadne::{Color, Config, Label, Report, ReportKind, sources};
use nivis_builtins::pure::print::did_you_mean;
use std::fmt::Write;

/// How a diagnostic is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct RenderOptions {
    /// Use terminal colours.
    pub colours: bool,
    /// Show the whole trace instead of the steps that matter most.
    pub show_trace: bool,
}

/// Calls that a short trace shows.
const SHORT_CALLS: usize = 3;
/// Explicit contexts that a short trace shows.
const SHORT_CONTEXTS: usize = 10;
/// Bytes of a line that are shown on either side of a span.
const WINDOW: usize = 160;

/// The diagnostic as text, ending with a newline. The first line is `error: MESSAGE` (without colours).
pub fn render(d: &Diagnostic, options: &RenderOptions) -> String {
    let mut out = String::new();
    let message = printable(&d.message);
    let (on, off) = if options.colours {
        ("\x1b[31m", "\x1b[0m")
    } else {
        ("", "")
    };
    let _ = writeln!(out, "{on}error:{off} {message}");
    match (excerpt(d, options), &d.span) {
        (Some(text), _) => out.push_str(&text),
        (None, Some(span)) => {
            let _ = writeln!(out, "   at {}", printable(&span.location()));
        }
        (None, None) => {}
    }
    suggestions(d, &mut out);
    if options.show_trace {
        for item in &d.trace {
            trace_item(item, options, &mut out);
        }
    } else {
        short_trace(d, options, &mut out);
    }
    out
}

/// In Nix's words, which people and scripts know.
fn suggestions(d: &Diagnostic, out: &mut String) {
    let names: Vec<String> = d.suggestions.iter().map(|s| printable(s)).collect();
    let names: Vec<&[u8]> = names.iter().map(|s| s.as_bytes()).collect();
    if let Some(line) = did_you_mean(&names) {
        // Writing into a string does not fail, here and below.
        let _ = writeln!(out, "   {line}");
    }
}

fn short_trace(d: &Diagnostic, options: &RenderOptions, out: &mut String) {
    let (mut calls, mut contexts, mut hidden) = (0, 0, 0);
    let mut before: Option<&TraceItem> = None;
    for item in &d.trace {
        let repeated = before.is_some_and(|b| b.message == item.message && b.span == item.span);
        before = Some(item);
        // What says nothing that is not said already.
        if repeated
            || (!item.explicit
                && (item.span.is_none() || same_start(d.span.as_ref(), item.span.as_ref())))
        {
            continue;
        }
        let shown = if item.explicit {
            contexts += 1;
            contexts <= SHORT_CONTEXTS
        } else if item.message == "while calling the 'addErrorContext' builtin" {
            continue;
        } else {
            calls += 1;
            calls <= SHORT_CALLS
        };
        if shown {
            trace_item(item, options, out);
        } else {
            hidden += 1;
        }
    }
    if hidden > 0 {
        let plural = if hidden == 1 { "" } else { "s" };
        let _ = writeln!(
            out,
            "   ({hidden} step{plural} not shown; '--show-trace' shows all)"
        );
    }
}

/// Whether two spans start at the same place.
fn same_start(a: Option<&Span>, b: Option<&Span>) -> bool {
    matches!((a, b), (Some(a), Some(b)) if a.start == b.start && a.file.name == b.file.name)
}

fn trace_item(item: &TraceItem, options: &RenderOptions, out: &mut String) {
    let (on, off) = if options.colours {
        ("\x1b[34m", "\x1b[0m")
    } else {
        ("", "")
    };
    let _ = writeln!(out, "   {on}…{off} {}", printable(&item.message));
    let Some(span) = &item.span else { return };
    let _ = writeln!(out, "     at {}", printable(&span.location()));
    if options.show_trace
        && let Some(line) = Line::of(span)
    {
        let _ = writeln!(out, "     {:>6} │ {}", span.line, line.text.trim_end());
    }
}

/// Text without control characters other than line feeds and tabs.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if is_treacherous(c) => '\u{FFFD}',
            c => c,
        })
        .collect()
}

/// Characters that do something to a terminal, or change the direction of what follows.
fn is_treacherous(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// The line in which a span starts, shortened, and the span's part of it in characters.
struct Line {
    text: String,
    start: usize,
    end: usize,
}

impl Line {
    fn of(span: &Span) -> Option<Line> {
        let text = span.file.text.as_deref()?;
        // A text has no more lines than bytes, and one; the renderer is given that many line feeds.
        if span.line == 0 || span.line as usize > text.len() + 1 {
            return None;
        }
        let line_start = span
            .start
            .checked_sub(span.column.saturating_sub(1) as usize)?;
        let rest = text.get(line_start..)?;
        let line_end = line_start
            + rest
                .iter()
                .position(|b| matches!(b, b'\n' | b'\r'))
                .unwrap_or(rest.len());
        let start = span.start.clamp(line_start, line_end);
        let end = span.end.clamp(start, line_end);
        // A span of several lines is cut at the end of its first one, a long line around the span.
        let mut from = line_start.max(start.saturating_sub(WINDOW));
        let mut to = line_end.min(end.min(start + WINDOW) + WINDOW);
        while from > line_start && is_continuation(text[from]) {
            from -= 1;
        }
        while to < line_end && is_continuation(text[to]) {
            to += 1;
        }
        let end = end.min(to);
        let mut shown = String::new();
        if from > line_start {
            shown.push('…');
        }
        let put = |shown: &mut String, part: &[u8]| -> usize {
            shown.extend(String::from_utf8_lossy(part).chars().map(harmless));
            shown.chars().count()
        };
        let start = put(&mut shown, &text[from..start]);
        let from = from.max(span.start.clamp(line_start, line_end));
        let end = put(&mut shown, &text[from..end]);
        let rest_from = from.max(span.end.clamp(from, to));
        put(&mut shown, &text[rest_from..to]);
        if to < line_end {
            shown.push('…');
        }
        if end == shown.chars().count() {
            // Room for a mark after the end of the line.
            shown.push(' ');
        }
        Some(Line {
            text: shown,
            start,
            end: end.max(start + 1),
        })
    }
}

fn is_continuation(b: u8) -> bool {
    b & 0xc0 == 0x80
}

/// A character that the renderer neither takes for a line end nor measures differently from a terminal.
fn harmless(c: char) -> char {
    match c {
        '\t' => ' ',
        '\u{2028}' | '\u{2029}' => '\u{FFFD}',
        c if is_treacherous(c) => '\u{FFFD}',
        c => c,
    }
}

/// One text for the renderer: as many empty lines as there are before, then the lines to show.
struct Excerpt {
    location: String,
    text: String,
    /// Characters of `text`.
    chars: usize,
    /// Lines written so far.
    lines: u32,
}

/// The source around the error and related places; `None` when there is no source to show.
fn excerpt(d: &Diagnostic, options: &RenderOptions) -> Option<String> {
    let primary = d.span.as_ref()?;
    // A related place that is the place itself is a better caption for it.
    let (same, other): (Vec<&Related>, Vec<&Related>) = d
        .related
        .iter()
        .partition(|r| r.span.start == primary.start && r.span.file == primary.file);
    let caption = same.first().map_or("here", |r| r.message.as_str());
    let mut places: Vec<(&Span, &str, Color)> = vec![(primary, caption, Color::Red)];
    places.extend(
        other
            .iter()
            .map(|r| (&r.span, r.message.as_str(), Color::Blue)),
    );
    let mut texts: Vec<Excerpt> = Vec::new();
    let mut labels = Vec::new();
    let mut at_primary = None;
    for (order, (span, caption, colour)) in places.into_iter().enumerate() {
        // A source each: the renderer then shows them in our order and never joins distant lines.
        let Some(line) = Line::of(span) else {
            if order == 0 {
                return None;
            }
            continue;
        };
        let mut text = Excerpt {
            location: span.location(),
            text: String::new(),
            chars: 0,
            lines: 1,
        };
        while text.lines < span.line {
            text.text.push('\n');
            text.chars += 1;
            text.lines += 1;
        }
        let at = text.chars;
        text.text.push_str(&line.text);
        let id = format!("\u{1}{}\u{1}", texts.len());
        texts.push(text);
        let place = (id, at + line.start..at + line.end);
        at_primary.get_or_insert_with(|| place.clone());
        labels.push(
            Label::new(place)
                .with_message(printable(caption))
                .with_color(colour)
                .with_order(i32::try_from(order).unwrap_or(i32::MAX)),
        );
    }
    let report = Report::build(ReportKind::Custom("error", Color::Red), at_primary?)
        .with_config(Config::default().with_color(options.colours))
        .with_labels(labels)
        .finish();
    let mut bytes = Vec::new();
    let cache = sources(
        texts
            .iter()
            .enumerate()
            .map(|(i, t)| (format!("\u{1}{i}\u{1}"), t.text.clone())),
    );
    report.write(cache, &mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    // Its first line is a header; ours is printed already.
    Some(locations(text.split_once('\n')?.1, &texts))
}

/// Replaces the renderer's idea of a place, `\x01N\x01:LINE:COLUMN`, by ours: its columns count characters of
/// what it was shown.
fn locations(text: &str, texts: &[Excerpt]) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let mut parts = line.splitn(3, '\u{1}');
        match (
            parts.next(),
            parts.next().and_then(|n| n.parse::<usize>().ok()),
            parts.next(),
        ) {
            (Some(before), Some(n), Some(after)) => {
                out.push_str(before);
                out.push_str(&printable(texts.get(n).map_or("", |t| &t.location)));
                out.push_str(
                    after.trim_start_matches(|c: char| c == ':' || c.is_ascii_digit() || c == '?'),
                );
            }
            _ => out.push_str(line.trim_end()),
        }
        out.push('\n');
    }
    out
}
