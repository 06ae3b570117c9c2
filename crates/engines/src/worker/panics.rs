//! Panics tell where they happened and nothing else: their message may quote the document.

use std::cell::RefCell;
use std::panic;

thread_local! {
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Replaces the hook that prints a panic's message.
pub(super) fn keep_quiet() {
    panic::set_hook(Box::new(|info| {
        let place = info
            .location()
            .map(|at| format!("{}:{}", short(at.file()), at.line()));
        // The thread may be ending, and its variables with it.
        let _ = PLACE.try_with(|last| last.replace(place));
    }));
}

/// Where this thread panicked last.
pub(super) fn last_place() -> Option<String> {
    PLACE.with(RefCell::take)
}

/// A source file's path from its package on, without the folders of the machine that built it.
fn short(path: &str) -> &str {
    let package = path
        .rfind("/src/")
        .map(|src| path[..src].rfind('/').map_or(0, |slash| slash + 1));
    let from = package.unwrap_or_else(|| {
        if path.starts_with('/') {
            path.rfind('/').map_or(0, |slash| slash + 1)
        } else {
            0
        }
    });
    &path[from..]
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn a_place_begins_with_its_package() {
        for (path, expect) in [
            (
                "/home/someone/registry/src/index/pdf-1.2.3/src/parser/xref.rs",
                "pdf-1.2.3/src/parser/xref.rs",
            ),
            (
                "crates/engines/src/worker/mod.rs",
                "engines/src/worker/mod.rs",
            ),
            ("src/main.rs", "src/main.rs"),
            ("/home/someone/build.rs", "build.rs"),
            (
                "crates/engines/tests/worker.rs",
                "crates/engines/tests/worker.rs",
            ),
        ] {
            assert_eq!(short(path), expect);
        }
    }
}
