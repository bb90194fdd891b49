//! `imagehub man`: the manual pages, made from the same definitions as `--help`.

use std::fs;
use std::io;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

/// How roff is told what an apostrophe is.
const PREAMBLE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

/// The arguments of `man`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  imagehub man | man -l -                    read all pages
  imagehub man /usr/local/share/man/man1     install them")]
pub(super) struct Args {
    /// The folder that the pages are written to, one a command; without it all are printed
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<(), String> {
    let pages = pages().map_err(|error| format!("the manual pages can't be made: {error}"))?;
    let Some(dir) = &args.dir else {
        super::print(&pages.into_iter().map(|(_, page)| page).collect::<String>());
        return Ok(());
    };
    fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    for (name, page) in &pages {
        let path = dir.join(name);
        fs::write(&path, page).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    super::print(&format!("{} manual pages are in {}", pages.len(), dir.display()));
    Ok(())
}

/// The file names and the pages of the program and all its commands.
fn pages() -> io::Result<Vec<(String, String)>> {
    let mut cli = super::Cli::command();
    cli.build();
    let mut pages = Vec::new();
    add(&cli, &mut pages)?;
    Ok(pages)
}

fn add(command: &Command, pages: &mut Vec<(String, String)>) -> io::Result<()> {
    pages.push(page(command)?);
    command.get_subcommands().filter(|below| below.get_name() != "help").try_for_each(|below| add(below, pages))
}

fn page(command: &Command) -> io::Result<(String, String)> {
    let man = Man::new(command.clone()).source(concat!("imagehub ", env!("CARGO_PKG_VERSION"))).manual("imagehub");
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut out)?;
    }
    // What --help says at its end: examples as they are typed, line by line, and what is said before them.
    if let Some(after) = command.get_after_help().map(ToString::to_string) {
        let (said, examples) = after.split_once("Examples:\n").map_or((&*after, ""), |(said, rest)| (said, rest));
        let mut roff = Roff::new();
        if !said.trim().is_empty() {
            roff.control("SH", ["NOTES"]).text([roman(said.trim())]);
        }
        if !examples.is_empty() {
            roff.control("SH", ["EXAMPLES"]).control("nf", []);
            for line in examples.lines() {
                roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
            }
            roff.control("fi", []);
        }
        roff.to_writer(&mut out)?;
    }
    // Each section was rendered by itself, and begins with this.
    let page = String::from_utf8_lossy(&out).replace(PREAMBLE, "");
    Ok((man.get_filename(), format!("{PREAMBLE}{page}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_of_its_own() {
        let pages = pages().unwrap();
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in ["imagehub.1", "imagehub-serve.1", "imagehub-user-add.1", "imagehub-man.1"] {
            assert!(names.contains(&name), "{names:?}");
        }
        let serve = &pages.iter().find(|(name, _)| name == "imagehub-serve.1").unwrap().1;
        for text in ["LISTENING", "EXAMPLES", "IMAGEHUB_DATA_DIR", "imagehub serve \\-\\-demo"] {
            assert!(serve.contains(text), "{text} in {serve}");
        }
        assert_eq!(serve.matches(".el .ds Aq").count(), 1, "{serve}");
    }
}
