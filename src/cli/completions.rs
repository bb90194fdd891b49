//! `imagehub completions`.

use clap::{Args as ClapArgs, CommandFactory as _};
use clap_complete::Shell;

/// The arguments of `completions`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  source <(imagehub completions bash)              this shell only
  imagehub completions bash > /etc/bash_completion.d/imagehub
  imagehub completions zsh > ~/.zfunc/_imagehub    a folder in zsh's fpath
  imagehub completions fish > ~/.config/fish/completions/imagehub.fish")]
pub(super) struct Args {
    /// The shell that the script is for
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(super) fn run(args: &Args) {
    super::print(&script(args.shell));
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::Cli::command(), "imagehub", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::super::Cli;
    use super::*;

    #[test]
    fn every_shell_completes_every_command() {
        for shell in Shell::value_variants() {
            let script = script(*shell);
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
        }
    }
}
