//! Each command that a page shows is run, unless it says why it cannot be: the blocks of a page by one shell, in their order, in a folder of their
//! own, with other ports.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::blocks::{Block, of_page};
use super::{configurations, pages};
use crate::support::service::free_port;
use crate::support::tools::{self, TempFolder};

/// Ports of the pages, which are others in the test.
const PORTS: &[&str] = &["8080", "9000", "9901"];
/// Time until the commands of a page are given up, in seconds.
const LIMIT: &str = "120";
/// Programs of commands that need not be on a machine.
const PROGRAMS: &[&str] = &["minio", "ffmpeg", "ffprobe", "openssl", "curl"];

/// A command whose output a page shows.
struct Shown {
    command: String,
    lines: Vec<String>,
    /// Name of the file with its output.
    file: String,
}

/// The commands of a page as a script.
struct Script {
    text: String,
    shown: Vec<Shown>,
}

#[test]
fn every_command_of_the_documents_runs() {
    let mut ran = 0;
    for (page, text) in pages() {
        let blocks = of_page(&page, &text);
        let is_run = |block: &&Block| is_commands(block) && block.mark("not run").is_none();
        let commands: String = blocks.iter().filter(is_run).map(|block| block.text.as_str()).collect();
        let words = || commands.split(|letter: char| letter.is_whitespace() || "()|".contains(letter));
        let needed = PROGRAMS.iter().filter(|program| words().any(|word| word == **program));
        if commands.is_empty() || needed.map(|program| tools::find(program)).any(|found| found.is_none()) {
            continue;
        }
        run(&page, &blocks);
        ran += 1;
    }
    assert!(ran >= 7 || tools::find("minio").is_none(), "commands of only {ran} pages are run");
}

/// Tells whether a block has commands.
fn is_commands(block: &Block) -> bool {
    ["sh", "console"].contains(&block.language.as_str())
}

/// Runs the commands of a page.
fn run(page: &str, blocks: &[Block]) {
    let folder = TempFolder::new("commands");
    let ports: Vec<(&str, u16)> = PORTS.iter().map(|port| (*port, free_port())).collect();
    let script = script(blocks, &ports);
    let file = folder.path().join("commands.bash");
    std::fs::write(&file, &script.text).expect("the file can be written");
    std::fs::write(folder.path().join("song.flac"), [b"fLaC".as_slice(), &[7; 128_017]].concat()).expect("as well");
    let mut shell = Command::new("timeout");
    shell.args(["--kill-after=5", LIMIT, "bash"]).arg(&file).current_dir(folder.path()).env_clear();
    shell.env("PATH", path()).env("HOME", folder.path());
    let ended = shell.output().expect("it runs");
    let said = [ended.stdout, ended.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(ended.status.success(), "{page}: {}\n{}\n{said}{}", ended.status, script.text, logs(folder.path()));
    for shown in script.shown {
        let output = std::fs::read_to_string(folder.path().join(&shown.file)).unwrap_or_default();
        for line in &shown.lines {
            assert!(
                is_in(line, &output),
                "{page}: {}: {line:?} is not in what it says:\n{output}{said}",
                shown.command
            );
        }
    }
}

/// The script of a page's blocks.
fn script(blocks: &[Block], ports: &[(&str, u16)]) -> Script {
    let here = |text: &str| {
        let place = |text: String, (port, other): &(&str, u16)| text.replace(&format!(":{port}"), &format!(":{other}"));
        ports.iter().fold(text.to_owned(), place)
    };
    let mut script = Script {
        // Servers that were started in the background end with the script.
        text: "set -euo pipefail\ntrap 'for job in $(jobs -p); do kill $job; done; wait' EXIT\n".to_owned(),
        shown: Vec::new(),
    };
    for block in blocks {
        if let Some(name) = block.mark("file") {
            let text = here(&configurations::whole(block));
            write!(script.text, "cat >{name} <<'END OF FILE'\n{text}\nEND OF FILE\n").expect("a string takes all");
        }
        if !is_commands(block) || block.mark("not run").is_some() {
            continue;
        }
        let text = here(&block.text);
        if block.language == "sh" {
            script.text.push_str(&text);
        } else {
            add_shown(&mut script, &text);
        }
        if text.contains("tidegate serve") {
            // A reader waits for the line that says it is ready.
            let url = here("http://127.0.0.1:8080/");
            let retry = "--retry 60 --retry-delay 1 --retry-connrefused";
            writeln!(script.text, "curl -s {retry} -o /dev/null {url}").expect("a string takes all");
        }
    }
    script
}

/// Adds the commands of a block that shows what they say.
fn add_shown(script: &mut Script, text: &str) {
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(command) = line.strip_prefix("$ ") else { continue };
        let is_output = |line: &&str| !line.starts_with("$ ");
        let output: Vec<String> = std::iter::from_fn(|| lines.next_if(is_output)).map(str::to_owned).collect();
        let file = format!("output-{}", script.shown.len());
        // A command that shows nothing must succeed; one that shows a refusal ends with a failure.
        let end = if output.is_empty() { "" } else { " || true" };
        writeln!(script.text, "{{\n{command}\n}} >{file} 2>&1{end}").expect("a string takes all");
        script.shown.push(Shown { command: command.to_owned(), lines: output, file });
    }
}

/// Whether a line that a page shows is in what a command says: the whole line, or its first word where there are more, numbers apart.
fn is_in(line: &str, output: &str) -> bool {
    let Some(first) = line.split_whitespace().next().filter(|word| *word != "…") else { return true };
    if line.trim() == first && !first.contains('"') {
        return output.lines().any(|said| said.trim() == first);
    }
    let first = without_numbers(first);
    output.lines().any(|said| without_numbers(said.trim_start()).starts_with(&first))
}

/// The text with `#` for each number.
fn without_numbers(text: &str) -> String {
    let mut made = String::new();
    for letter in text.chars() {
        if !letter.is_ascii_digit() {
            made.push(letter);
        } else if !made.ends_with('#') {
            made.push('#');
        }
    }
    made
}

/// Where programs are looked for: the one of this build first.
fn path() -> std::ffi::OsString {
    let own = Path::new(env!("CARGO_BIN_EXE_tidegate")).parent().map(Path::to_owned);
    let folders =
        PROGRAMS.iter().filter_map(|program| tools::find(program)).filter_map(|it| Some(it.parent()?.to_owned()));
    let system = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin"].map(PathBuf::from);
    std::env::join_paths(own.into_iter().chain(folders).chain(system)).expect("folders without colons")
}

/// What the servers have written, for a failure.
fn logs(folder: &Path) -> String {
    let files = std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    let is_log = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.ends_with(".log") || name.starts_with("output-")
    };
    let text = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        format!("--- {}\n{}\n", path.display(), &text[..text.floor_char_boundary(4000)])
    };
    files.filter(is_log).map(text).collect()
}

#[test]
fn what_a_page_shows_is_compared_by_lines_and_by_first_words() {
    let output = "HTTP/1.1 206 Partial Content\nDate: Mon\n403\n{\"status\":404,\"a\":\"b c\"}\n";
    for line in ["HTTP/2.0 206 Partial Content", "Date: Sun", "403", "…", "", "{\"status\":400,\"a\":\"b d\"}"] {
        assert!(is_in(line, output), "{line:?}");
    }
    for line in ["404", "Content-Type: text/plain", "40"] {
        assert!(!is_in(line, output), "{line:?}");
    }
}
