//! Links between documents lead somewhere, the book's contents are its pages, and the files and tests that it names
//! exist. Needs no crate.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Folders in which no document of this repository lies.
const ELSEWHERE: [&str; 5] = ["target", "runs", "downloads", "data", "node_modules"];

/// Folders of the repository in which a file that a page names has to be.
const FOLDERS: [&str; 8] = ["docs", "experiments", "framework", "kernels", "models", "serving", "tests", "trainers"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Every document below `folder`.
fn documents(folder: &Path, into: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let hidden = name.starts_with('.') || name.ends_with(".venv") || ELSEWHERE.contains(&name.as_str());
        if path.is_dir() && !path.is_symlink() && !hidden {
            documents(&path, into);
        } else if path.extension().is_some_and(|end| end == "md") {
            into.push(path);
        }
    }
}

fn all_documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    documents(&root(), &mut found);
    assert!(found.len() > 20, "{} documents", found.len());
    found
}

/// A document's lines, numbered from 1, less those of blocks of code.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut lines = Vec::new();
    let mut fence: Option<&str> = None;
    for (at, line) in text.lines().enumerate() {
        let start = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            (None, None) => lines.push((at + 1, line)),
            _ => {}
        }
    }
    lines
}

/// A line less what stands between backticks, which links nowhere.
fn without_code(line: &str) -> String {
    let mut left = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('`') {
        let ticks = rest[at..].len() - rest[at..].trim_start_matches('`').len();
        let (before, behind) = (&rest[..at], &rest[at + ticks..]);
        left += before;
        match behind.find(&"`".repeat(ticks)) {
            // Something has to stand there: text of a link may be code alone.
            Some(end) => {
                left.push('x');
                rest = &behind[end + ticks..];
            }
            None => {
                left += &rest[at..at + ticks];
                rest = behind;
            }
        }
    }
    left + rest
}

/// Where the links and pictures of a line lead.
fn targets(line: &str) -> Vec<String> {
    let line = without_code(line);
    let mut found = Vec::new();
    let mut rest = line.as_str();
    while let Some(at) = rest.find("](") {
        rest = &rest[at + 2..];
        // Parentheses in an address come in pairs.
        let mut depth = 1;
        let end = rest.char_indices().find(|&(_, c)| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth == 0
        });
        let Some((end, _)) = end else { break };
        // A title may follow the address.
        found.extend(rest[..end].split_whitespace().next().map(String::from));
        rest = &rest[end + 1..];
    }
    // `[name]: address` on a line of its own.
    if let Some((name, address)) = line.strip_prefix('[').and_then(|line| line.split_once("]: "))
        && !name.contains([']', '('])
    {
        found.extend(address.split_whitespace().next().map(String::from));
    }
    found
}

/// The anchors of a document's headings, as GitHub and mdBook name them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut anchors = BTreeSet::new();
    for (_, line) in prose(text) {
        let heading = line.trim_start_matches('#');
        if heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let anchor = anchor(heading.trim());
        let count = seen.entry(anchor.clone()).or_default();
        anchors.insert(if *count == 0 { anchor } else { format!("{anchor}-{count}") });
        *count += 1;
    }
    anchors
}

fn anchor(heading: &str) -> String {
    // Of a link in a heading the text counts.
    let mut text = String::new();
    let mut rest = heading;
    while let Some((before, behind)) = rest.split_once("](") {
        text += before;
        rest = behind.split_once(')').map_or("", |(_, after)| after);
    }
    text += rest;
    let kept = text.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>().to_lowercase()
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

/// What is wrong with a link of `document`, if anything is.
fn wrong(document: &Path, target: &str) -> Option<String> {
    let outside = ["http://", "https://", "mailto:"].iter().any(|scheme| target.starts_with(scheme));
    if outside {
        return None;
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let file = if path.is_empty() { document.to_path_buf() } else { plain(&document.parent()?.join(path)) };
    if !file.exists() {
        return Some("leads to no file".into());
    }
    if !file.starts_with(root()) {
        return Some("leads out of the repository".into());
    }
    let book = root().join("docs/src");
    if file.extension().is_some_and(|end| end == "md") && document.starts_with(&book) && !file.starts_with(&book) {
        return Some(
            "leads out of the book, where a link to a page ends in .html: name the file, link its folder".into(),
        );
    }
    let anchor = anchor?;
    let known = file.extension().is_some_and(|end| end == "md")
        && anchors(&fs::read_to_string(&file).unwrap()).contains(anchor);
    (!known).then(|| format!("names no heading of {}", file.display()))
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut faults = Vec::new();
    for document in all_documents() {
        let text = fs::read_to_string(&document).unwrap();
        for (line, prose) in prose(&text) {
            for target in targets(prose) {
                if let Some(why) = wrong(&document, &target) {
                    faults.push(format!(
                        "{} line {line}: {target} {why}",
                        document.strip_prefix(root()).unwrap().display()
                    ));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_books_contents_are_its_pages() {
    let source = root().join("docs/src");
    let summary = fs::read_to_string(source.join("SUMMARY.md")).unwrap();
    let listed: Vec<PathBuf> =
        prose(&summary).into_iter().flat_map(|(_, line)| targets(line)).map(|target| source.join(target)).collect();
    let distinct: BTreeSet<&PathBuf> = listed.iter().collect();
    assert_eq!(distinct.len(), listed.len(), "the contents list a page twice");
    let mut faults = Vec::new();
    for page in &listed {
        match fs::read_to_string(page) {
            Ok(text) if text.split_whitespace().count() < 50 => faults.push(format!("{} is empty", page.display())),
            Ok(text) if !text.starts_with("# ") => faults.push(format!("{} begins with no title", page.display())),
            Ok(_) => {}
            Err(error) => faults.push(format!("{}: {error}", page.display())),
        }
    }
    let mut pages = Vec::new();
    documents(&source, &mut pages);
    for page in pages.iter().filter(|page| !page.ends_with("SUMMARY.md")) {
        if !distinct.contains(page) {
            faults.push(format!("{} is not in SUMMARY.md", page.display()));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Whether a piece of code names a file or a folder of the repository.
fn names_a_file(code: &str) -> bool {
    let sign = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-' | '.' | '/');
    let folder = code.split('/').next().unwrap_or_default();
    code.contains('/') && code.chars().all(sign) && FOLDERS.contains(&folder)
}

/// Where files of the same name are, for a page that names one which was moved.
fn elsewhere(code: &str) -> String {
    let Some(name) = Path::new(code).file_name().filter(|_| code.ends_with(".rs")) else { return String::new() };
    let files: Vec<String> = FOLDERS
        .iter()
        .flat_map(|folder| sources(&root().join(folder)))
        .filter(|path| path.file_name() == Some(name))
        .map(|path| path.strip_prefix(root()).unwrap().display().to_string())
        .collect();
    if files.is_empty() { String::new() } else { format!("; there is {}", files.join(", ")) }
}

/// The Rust files of a folder and of all in it.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
    let rust = files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.chain(folders.iter().flat_map(|folder| sources(folder))).collect()
}

/// Whether a piece of code is named as tests are.
fn names_a_test(code: &str) -> bool {
    code.matches('_').count() > 2
        && code.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_')
}

#[test]
fn every_file_and_every_test_that_a_page_names_exists() {
    let mut wrong = Vec::new();
    let mut pages = vec![root().join("ARCHITECTURE.md")];
    documents(&root().join("docs/src"), &mut pages);
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        // What is still to be written has no file yet.
        let text = text.split("## Not here yet").next().unwrap();
        let shown = page.strip_prefix(root()).unwrap().display().to_string();
        for (_, line) in prose(text) {
            let mut source = None;
            for code in line.split('`').skip(1).step_by(2) {
                let file = root().join(code);
                if names_a_file(code) {
                    let there = file.exists();
                    source = there.then(|| file.is_file().then(|| fs::read_to_string(&file).unwrap())).flatten();
                    wrong.extend((!there).then(|| format!("{shown}: there is no {code}{}", elsewhere(code))));
                } else if names_a_test(code) && line.starts_with('|') {
                    let there = source.as_ref().is_none_or(|source| source.contains(&format!("fn {code}(")));
                    wrong.extend((!there).then(|| format!("{shown}: no test is named {code}")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn links_and_anchors_are_found() {
    assert_eq!(targets("See [a](b.md#c) and ![d](e_(f).svg \"g\"), not `[h](i)`."), ["b.md#c", "e_(f).svg"]);
    assert_eq!(targets("[`code`](lib.rs)"), ["lib.rs"]);
    assert_eq!(targets("[name]: there.md"), ["there.md"]);
    let text =
        "# A page, of `code`\n\n## Two\n\n```text\n# not one\n[no](link)\n```\n\n## Two\n\n### [Linked](x.md) one\n";
    let expected = ["a-page-of-code", "two", "two-1", "linked-one"].map(String::from);
    assert_eq!(anchors(text), BTreeSet::from(expected));
    assert_eq!(prose(text).iter().filter(|(_, line)| line.contains("no")).count(), 0);
}
