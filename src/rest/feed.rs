//! A repository for feed readers and for pages: Atom (RFC 4287), and a badge.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::contract::BASE;
use super::problem::Problem;
use super::read::Made;
use super::serve::Call;
use crate::api::Kind;
use crate::gateway::View;
use crate::graph::Record;
use crate::model::ImageView;

/// How many of the newest images are in a feed.
const ENTRIES: usize = 50;
/// How wide a character of a badge is taken to be, in pixels.
const CHARACTER: usize = 7;
/// What a badge says left of the tag.
const LABEL: &str = "imagehub";
/// How many characters of a tag a badge shows.
const SHOWN: usize = 40;

/// Text, fit to stand in XML: what XML can't hold at all is left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => out.push(c),
        }
    }
    out
}

fn repository<'a>(call: &Call, view: &'a View) -> Result<&'a Record, Problem> {
    let record = view.find_repository(&call.repository_name());
    record.map(|record| &**record).ok_or_else(|| Problem::absent(Kind::Repository))
}

fn time(ms: i64) -> String {
    Timestamp::from_second(ms.div_euclid(1000)).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

/// The newest images of the repository, as a feed.
pub(super) fn feed(call: &Call, view: &View) -> Result<Made, Problem> {
    let record = repository(call, view)?;
    let name = call.repository_name();
    let shown = escaped(&name);
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<feed xmlns=\"http://www.w3.org/2005/Atom\">\n  \
         <id>urn:imagehub:repository:{shown}</id>\n  <title>{shown}</title>\n  <updated>{}</updated>\n  \
         <author><name>{}</name></author>\n  <link rel=\"self\" href=\"{BASE}/repositories/{shown}/feed.atom\"/>\n",
        time(crate::search::updated_ms(view.visible(), record)),
        escaped(call.first_name()),
    );
    for image in view.visible().tags(&name).iter().take(ENTRIES) {
        let (Some(head), Some(read)) = (image.image(), ImageView::of(image)) else { continue };
        let (image_name, tag) = (escaped(head.name()), escaped(head.tag()));
        // A Vec takes all.
        let _ = write!(
            out,
            "  <entry>\n    <id>urn:imagehub:image:{image_name}</id>\n    <title>{image_name}</title>\n    \
             <published>{}</published>\n    <updated>{}</updated>\n    <link href=\"{BASE}/images/{shown}/{tag}\"/>\n",
            escaped(image.created()),
            time(image.at_ms),
        );
        for keyword in read.keywords() {
            let _ = writeln!(out, "    <category term=\"{}\"/>", escaped(&keyword));
        }
        if let Some(description) = read.description() {
            let _ = writeln!(out, "    <summary>{}</summary>", escaped(&description));
        }
        out.push_str("  </entry>\n");
    }
    out.push_str("</feed>\n");
    Ok(Made { body: out.into(), link: None })
}

/// The repository's newest tag, as a badge.
pub(super) fn badge(call: &Call, view: &View) -> Result<Made, Problem> {
    repository(call, view)?;
    let newest = view.visible().tags(&call.repository_name()).first().and_then(|image| image.image());
    let tag = newest.map_or_else(|| "none".to_owned(), |image| image.tag().chars().take(SHOWN).collect());
    let (left, right) = (LABEL.len() * CHARACTER + 10, tag.chars().count() * CHARACTER + 10);
    let (width, tag) = (left + right, escaped(&tag));
    let body = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"20\" role=\"img\" aria-label=\"{LABEL}: {tag}\">\
         <title>{LABEL}: {tag}</title><rect width=\"{left}\" height=\"20\" fill=\"#555\"/>\
         <rect x=\"{left}\" width=\"{right}\" height=\"20\" fill=\"#0a7ea4\"/>\
         <g fill=\"#fff\" font-family=\"Verdana,sans-serif\" font-size=\"11\" text-anchor=\"middle\">\
         <text x=\"{}\" y=\"14\">{LABEL}</text><text x=\"{}\" y=\"14\">{tag}</text></g></svg>\n",
        left / 2,
        left + right / 2,
    );
    Ok(Made { body: body.into(), link: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_xml_can_t_leave_it() {
        assert_eq!(escaped("a<b>&\"'\u{0}\u{1b}\nc"), "a&lt;b&gt;&amp;&quot;&#39;\nc");
    }
}
