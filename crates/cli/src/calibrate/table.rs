//! The rates as Markdown, and all rows as CSV.

use super::record::{PowerSummary, Rate, Record, SizeSummary, Summary};

/// `4.1% (2.6–6.5), 18 of 440`.
fn rate(rate: &Rate) -> String {
    let [low, high] = rate.interval.map(|end| 100.0 * end);
    format!("{:.1}% ({low:.1}–{high:.1}), {} of {}", 100.0 * rate.rate, rate.count, rate.of)
}

fn short(rate: &Rate) -> String {
    if rate.of == 0 { "–".into() } else { format!("{:.0}% of {}", 100.0 * rate.rate, rate.of) }
}

fn verdict(passes: Option<bool>) -> &'static str {
    match passes {
        Some(true) => "yes",
        Some(false) => "**no**",
        None => "",
    }
}

/// A Markdown table; columns but the first are aligned right.
fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let rule = format!("|---|{}\n", "---:|".repeat(header.len() - 1));
    let rows: String = rows.map(line).collect();
    format!("{}{rule}{rows}\n", line(header.iter().map(|&cell| cell.to_owned()).collect()))
}

/// All tables, for a page that says what they mean.
pub fn markdown(summary: &Summary) -> String {
    let mut text = format!(
        "`{}`, {}, {}: {:.0} s. {} models of each kind. Rates with 95% Wilson intervals.\n\n",
        summary.command, summary.machine, summary.date, summary.seconds, summary.models
    );
    text += "### Victims\n\n";
    text += &table(
        &[
            "model",
            "models",
            "clean accuracy",
            "relative residual, median",
            "99th percentile",
            "least cosine",
        ],
        summary.victims.iter().map(|victim| {
            vec![
                victim.kind.clone(),
                victim.models.to_string(),
                format!("{:.1}%", 100.0 * victim.clean_accuracy),
                format!("{:.1e}", victim.residual),
                format!("{:.1e}", victim.residual_99),
                victim.cosine.map_or_else(String::new, |cosine| format!("{cosine:.6}")),
            ]
        }),
    );
    if !summary.size.is_empty() {
        text += "### Size\n\n";
        text += &size(&summary.size, "yardstick");
    }
    if !summary.healthy.is_empty() {
        text += "### Healthy models\n\n";
        text += &table(
            &["n", "not-obfuscated", "obfuscated", "mean b + c"],
            summary.healthy.iter().map(|row| {
                vec![
                    row.n.map_or_else(String::new, |n| n.to_string()),
                    rate(&row.not_obfuscated),
                    rate(&row.obfuscated),
                    format!("{:.1}", row.discordant),
                ]
            }),
        );
    }
    if !summary.power.is_empty() {
        text += "### Power\n\n";
        text += &power(&summary.power);
        text += &table(
            &["target", "obfuscated", "at least 90%"],
            summary.targets.iter().map(|target| {
                vec![target.what.clone(), rate(&target.obfuscated), verdict(Some(target.passes)).into()]
            }),
        );
        text += "### Faults\n\n";
        text += &table(
            &[
                "fault",
                "n",
                "mean gap, points",
                "obfuscated",
                "arms alone",
                "gradient",
                "aim",
                "gradient-free",
            ],
            summary.faults.iter().map(|row| {
                let [gradient, aim, gradient_free] = row.evidence.map(|count| count.to_string());
                vec![
                    row.kind.clone().unwrap_or_default(),
                    row.n.to_string(),
                    format!("{:.1}", 100.0 * row.mean_gap),
                    rate(&row.obfuscated),
                    short(&row.arms_alone),
                    gradient,
                    aim,
                    gradient_free,
                ]
            }),
        );
    }
    if !summary.checks.is_empty() {
        text += "### Checks\n\n";
        text += &table(
            &["check", "on", "raised", "as it should be"],
            summary.checks.iter().map(|row| {
                vec![
                    format!("`{}`", row.check),
                    row.kind.clone(),
                    rate(&row.raised),
                    verdict(Some(row.passes)).into(),
                ]
            }),
        );
    }
    text += "### Targets missed\n\n";
    if summary.failures.is_empty() {
        text += "None.\n";
    }
    for failure in &summary.failures {
        text += &format!("- {failure}\n");
    }
    text
}

fn size(rows: &[SizeSummary], by: &str) -> String {
    table(
        &[
            "null",
            by,
            "n",
            "obfuscated",
            "arms alone",
            "not-obfuscated",
            "mean b + c",
            "b + c ≥ 6 at n ≥ 200",
            "holds",
        ],
        rows.iter().map(|row| {
            vec![
                row.kind.clone(),
                row.yardstick_by.into(),
                row.n.map_or_else(|| "all".to_owned(), |n| n.to_string()),
                rate(&row.obfuscated),
                short(&row.arms_alone),
                short(&row.not_obfuscated),
                format!("{:.1}", row.discordant),
                row.could_fail.as_ref().map_or_else(String::new, short),
                verdict(row.passes).into(),
            ]
        }),
    )
}

/// Bins of gaps down, numbers of images across.
fn power(rows: &[PowerSummary]) -> String {
    let mut sizes: Vec<usize> = rows.iter().map(|row| row.n).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let mut bins: Vec<[f64; 2]> = rows.iter().filter_map(|row| row.gap).collect();
    bins.sort_by(|a, b| a[0].total_cmp(&b[0]));
    bins.dedup();
    let header: Vec<String> =
        std::iter::once("gap, points".to_owned()).chain(sizes.iter().map(|n| format!("n = {n}"))).collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    table(
        &header,
        bins.iter().map(|bin| {
            let cells = sizes.iter().map(|&n| {
                let found = rows.iter().find(|row| row.n == n && row.gap == Some(*bin));
                found.map_or_else(String::new, |row| short(&row.obfuscated))
            });
            std::iter::once(format!("{:.1} to {:.1}", 100.0 * bin[0], 100.0 * bin[1])).chain(cells).collect()
        }),
    )
}

/// Verdicts, one a line.
pub fn verdicts_csv(record: &Record) -> String {
    let mut text =
        "kind,yardstick_by,model,seed,eps,n,b,c,p,yardstick_b,yardstick_c,yardstick_p,gradient_free_only,\
                    arms_alone,finding,evidence,standing,gap,noise\n"
            .to_owned();
    let name = |value: &dyn erased::Named| value.name();
    for row in &record.verdicts {
        let yardstick = row.yardstick.map_or(",,".into(), |(b, c, p)| format!("{b},{c},{p:.5}"));
        text += &format!(
            "\"{}\",{},{},{},{},{},{},{},{:.5},{yardstick},{},{},{},{},{:.4},{:.4},{:.4}\n",
            row.kind,
            row.yardstick_by,
            row.model,
            row.seed,
            row.eps,
            row.n,
            row.b,
            row.c,
            row.p,
            row.gradient_free_only,
            row.arms_alone,
            name(&row.finding),
            row.evidence.as_ref().map_or_else(String::new, |evidence| name(evidence)),
            row.standing,
            row.gap,
            row.noise
        );
    }
    text
}

/// Checks, one a line.
pub fn checks_csv(record: &Record) -> String {
    let mut text = "check,kind,model,eps,group,raised,numbers\n".to_owned();
    for row in &record.checks {
        let number = |number: &Option<f64>| number.map_or_else(String::new, |number| format!("{number:.4e}"));
        let numbers: Vec<String> = row.numbers.iter().map(number).collect();
        text += &format!(
            "{},\"{}\",{},{},{},{},{}\n",
            row.check,
            row.kind,
            row.model,
            row.eps,
            row.group,
            row.raised,
            numbers.join(";")
        );
    }
    text
}

/// Names as they stand in JSON.
mod erased {
    use serde::Serialize;

    /// A unit variant.
    pub trait Named {
        /// Its name.
        fn name(&self) -> String;
    }

    impl<T: Serialize> Named for T {
        fn name(&self) -> String {
            serde_json::to_value(self)
                .ok()
                .and_then(|value| Some(value.as_str()?.to_owned()))
                .unwrap_or_default()
        }
    }
}
