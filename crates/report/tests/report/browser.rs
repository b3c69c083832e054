//! The page in a real browser, at a phone's and at a desktop's width. Skipped, with a reason, where no Chromium is
//! installed.
//!
//! Chromium has no narrow windows, so a copy of the page stands in a frame of the wanted width; a script that is
//! added to the copy alone measures it and tells the page around it.

use crate::records::{diagnosis, flagged, gallery, report, two_radii};
use crate::trainings;
use equipoise_report::{Format, Report, render};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

const MEASURE: &str = "<script>addEventListener('load', () => {
  const root = document.documentElement;
  const shown = selector => [...document.querySelectorAll(selector)].filter(e => e.getClientRects().length).length;
  const beyond = [...document.body.querySelectorAll('*')]
    .filter(e => e.getBoundingClientRect().right > root.clientWidth + 1 && !e.closest('.scroll, pre, svg'))
    .map(e => e.tagName + '.' + e.className);
  parent.postMessage({
    width: root.clientWidth, content: root.scrollWidth, beyond,
    wide: shown('svg.wide'), narrow: shown('svg.narrow'),
    images: [...document.images].filter(i => i.complete && i.naturalWidth > 0).length,
    text: Math.min(...[...document.querySelectorAll('svg text')].filter(e => e.getClientRects().length)
      .map(e => parseFloat(getComputedStyle(e).fontSize) * e.getScreenCTM().a)),
  }, '*');
});</script></body>";

pub fn chromium() -> Option<&'static str> {
    let starts = |name: &&str| {
        let quiet = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        quiet.is_ok_and(|status| status.success())
    };
    ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"].into_iter().find(starts)
}

/// What the script measures in a frame of this width.
fn measure(browser: &str, folder: &Path, width: u32) -> Value {
    let around = format!(
        "<!DOCTYPE html><title>frame</title><iframe src=\"page.html\" width=\"{width}\" height=\"3000\" \
         style=\"border:0\"></iframe><pre id=\"found\"></pre><script>addEventListener('message', e => \
         found.textContent = JSON.stringify(e.data))</script>"
    );
    fs::write(folder.join("frame.html"), around).unwrap();
    let dom = dom(browser, &folder.join("frame.html"), "");
    let found = dom.split("<pre id=\"found\">").nth(1).and_then(|rest| rest.split("</pre>").next());
    let found = found.unwrap_or_else(|| panic!("no measurement: {dom}"));
    serde_json::from_str(found).unwrap_or_else(|error| panic!("{error}: {found}"))
}

/// What a browser makes of a page, opened at a place in it; with the browser's own messages where it makes nothing.
pub fn dom(browser: &str, page: &Path, place: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--window-size=1600,3200", "--virtual-time-budget=5000", "--dump-dom"])
        .arg(format!("file://{}{place}", page.display()))
        .output()
        .unwrap();
    let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn fits_a_phone_and_a_desktop() {
    let Some(browser) = chromium() else {
        eprintln!("skipped: no chromium, chromium-browser or google-chrome on the path");
        return;
    };
    let mut long = two_radii();
    long.readouts[0].gallery = Some(gallery());
    long.model = "a-model-with-a-name-that-is-much-longer-than-a-phone-is-wide-and-has-no-spaces".into();
    let report = Report {
        diagnoses: vec![diagnosis()],
        trainings: vec![trainings::whole(), trainings::diverged()],
        ..report(vec![flagged(), long])
    };
    let page = render(Format::Html, &report).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("page.html"), page.replace("</body>", MEASURE)).unwrap();
    for (width, wide) in [(360, false), (390, false), (1280, true)] {
        let found = measure(browser, folder.path(), width);
        let number = |field: &str| found[field].as_f64().unwrap_or_else(|| panic!("{field}: {found}"));
        // A scroll bar may take some of the frame's width.
        assert!(number("width") > f64::from(width) - 20.0, "{found}");
        assert!(number("content") <= number("width"), "wider than {width}: {found}");
        assert_eq!(found["beyond"], Value::Array(Vec::new()), "{found}");
        assert_eq!((number("wide") > 0.0, number("narrow") > 0.0), (wide, !wide), "{found}");
        assert_eq!(number("images"), 6.0, "{found}");
        assert!(number("text") >= 9.0, "text of figures is too small at {width}: {found}");
    }
}
