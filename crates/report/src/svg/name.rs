//! Names of files and labels, made of what tells figures and tables apart.

use super::Drawing;

/// A name for each drawing: its place, its title and, where several have that title, the setting its caption begins with.
pub(crate) fn names(drawings: &[Drawing]) -> Vec<String> {
    let name = |(i, drawing): (usize, &Drawing)| {
        let alone = drawings.iter().filter(|other| other.title == drawing.title).count() == 1;
        let setting = drawing.caption.split(". ").next().filter(|_| !alone).unwrap_or_default();
        let slug = slug(&format!("{} {setting}", drawing.title));
        format!("{:02}-{}", i + 1, if slug.is_empty() { "figure" } else { &slug })
    };
    drawings.iter().enumerate().map(name).collect()
}

/// The longest name: file systems take 255 bytes.
const LONGEST: usize = 120;

/// Lower-case letters, digits and hyphens. Of what is too long the middle is left out: names differ at their ends.
pub(crate) fn slug(says: &str) -> String {
    let mut words: Vec<String> = vec![String::new()];
    for c in says.chars() {
        let mut letters = |letters: &str| words.last_mut().map(|word| word.push_str(letters));
        match c {
            'ε' => letters("eps"),
            'β' => letters("beta"),
            'λ' => letters("lambda"),
            'ρ' => letters("rho"),
            '∞' => letters("inf"),
            _ if c.is_ascii_alphanumeric() => letters(c.to_ascii_lowercase().encode_utf8(&mut [0; 4])),
            _ => {
                words.push(String::new());
                None
            }
        };
    }
    words.retain(|word| !word.is_empty());
    let whole = words.join("-");
    if whole.len() <= LONGEST {
        return whole;
    }
    // All of it is ASCII, so bytes are letters.
    let (head, tail) = (&whole[..LONGEST / 2], &whole[whole.len() - LONGEST / 2 + 1..]);
    format!("{}-{}", head.trim_end_matches('-'), tail.trim_start_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_what_tells_apart() {
        assert_eq!(slug("Accuracy by ε"), "accuracy-by-eps");
        assert_eq!(slug("CIFAR-10, L∞ ε = 8/255!"), "cifar-10-linf-eps-8-255");
        assert_eq!(slug("‖ ‖"), "");
        let long = |end: &str| slug(&format!("{} {end}", "very-".repeat(50)));
        assert_ne!(long("eps = 4/255"), long("eps = 8/255"));
        assert!(long("4/255").len() <= LONGEST && long("4/255").ends_with("-4-255"), "{}", long("4/255"));
    }
}
