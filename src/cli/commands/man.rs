//! `thorp man`: the manual, one page for all commands.

use crate::cli::arguments::{ABOUT, Arguments, INTRODUCTION, ManArguments};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::printer::Printer;
use clap::CommandFactory;
use clap_mangen::Man;
use std::io;

/// Prints the page in roff; needs neither settings nor a node.
///
/// # Errors
/// None in practice: the page is made in memory.
pub fn run(printer: &Printer, _arguments: &ManArguments) -> Result<Outcome, Failure> {
    let page = page().map_err(|error| Failure::failed(format!("cannot make the manual page: {error}")))?;
    printer.write(page.as_bytes());
    Ok(Outcome::Done)
}

/// Lines that each rendered part starts with; the page needs them once.
const PROLOGUE: [&str; 2] = [".ie \\n(.g .ds Aq \\(aq", ".el .ds Aq '"];

fn page() -> io::Result<String> {
    let command = with_variables(Arguments::command()).about(ABOUT).long_about(INTRODUCTION);
    let man = Man::new(command.clone()).section("1").manual("thorp");
    let mut page = String::new();
    for line in PROLOGUE {
        push_line(&mut page, line);
    }
    push(&mut page, |bytes| man.render_title(bytes))?;
    push(&mut page, |bytes| man.render_name_section(bytes))?;
    push(&mut page, |bytes| man.render_synopsis_section(bytes))?;
    push(&mut page, |bytes| man.render_description_section(bytes))?;
    push(&mut page, |bytes| man.render_options_section(bytes))?;
    for subcommand in command.get_subcommands() {
        push_command(&mut page, "thorp", subcommand)?;
    }
    push_notes(&mut page, &man)?;
    push(&mut page, |bytes| man.render_version_section(bytes))?;
    Ok(page)
}

/// Says behind each option which variable stands for it.
fn with_variables(command: clap::Command) -> clap::Command {
    command
        .mut_args(|argument| match (argument.get_env(), argument.get_help()) {
            (Some(variable), Some(help)) => {
                let help = format!("{help} [{}]", variable.display());
                argument.help(help)
            }
            _ => argument,
        })
        .mut_subcommands(with_variables)
}

/// A section for one command, whose own sections become subsections.
fn push_command(page: &mut String, parent: &str, command: &clap::Command) -> io::Result<()> {
    let name = format!("{parent} {}", command.get_name());
    let man = Man::new(command.clone().bin_name(name.clone()).display_name(name.clone()));
    let mut body = String::new();
    push(&mut body, |bytes| man.render_description_section(bytes))?;
    push(&mut body, |bytes| man.render_synopsis_section(bytes))?;
    if command.get_arguments().next().is_some() {
        push(&mut body, |bytes| man.render_options_section(bytes))?;
    }
    if command.get_after_help().is_some() {
        push_notes(&mut body, &man)?;
    }
    push_line(page, &format!(".SH \"{}\"", name.to_uppercase()));
    for line in body.lines().filter(|line| *line != ".SH DESCRIPTION") {
        match line.strip_prefix(".SH ") {
            Some(heading) => push_line(page, &format!(".SS {heading}")),
            None => push_line(page, line),
        }
    }
    for subcommand in command.get_subcommands() {
        push_command(page, &name, subcommand)?;
    }
    Ok(())
}

/// The text behind the options, with its lines and columns as they are.
fn push_notes(page: &mut String, man: &Man) -> io::Result<()> {
    let mut notes = String::new();
    push(&mut notes, |bytes| man.render_extra_section(bytes))?;
    page.push_str(&notes.replace(".SH EXTRA\n", ".SH NOTES\n.nf\n"));
    push_line(page, ".fi");
    Ok(())
}

fn push(page: &mut String, render: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> io::Result<()> {
    let mut bytes = Vec::new();
    render(&mut bytes)?;
    for line in String::from_utf8_lossy(&bytes).lines().filter(|line| !PROLOGUE.contains(line)) {
        push_line(page, line);
    }
    Ok(())
}

fn push_line(page: &mut String, line: &str) {
    page.push_str(line);
    page.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_command_and_its_options() {
        let page = page().expect("made");
        for subcommand in Arguments::command().get_subcommands() {
            let heading = format!(".SH \"THORP {}\"", subcommand.get_name().to_uppercase());
            assert!(page.contains(&heading), "{heading}");
        }
        assert!(page.starts_with(".ie") && page.contains(".TH thorp 1"), "{}", &page[..200]);
        assert!(page.contains("heal\\-after") && page.contains("[THORP_HEAL_AFTER]"));
        assert!(page.contains(".SH \"THORP KEY NEW\"") && !page.contains("EXTRA"));
        assert_eq!(page.matches(PROLOGUE[0]).count(), 1);
    }
}
