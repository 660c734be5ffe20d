//! The words of the source: those of the field, none of the private ones that stood in their place.

use crate::sources;

/// Words that mean something here that the field has another word for; any of their forms.
const BANNED: [(&str, &str); 17] = [
    ("hear", "resolve"),
    ("heard", "resolved"),
    ("judge", "score"),
    ("judged", "scored, labeled"),
    ("weigh", "score"),
    ("settle", "apply, complete"),
    ("settled", "applied, completed"),
    ("mention", "reference"),
    ("opinion", "judgment"),
    ("lens", "view"),
    ("lane", "ticket"),
    ("keeper", "checkpointer"),
    ("fate", "status"),
    ("nudge", "request"),
    ("spill", "evict"),
    ("licence", "license"),
    ("temperature", "inverse temperature, of beta"),
];

/// The lower-case words of a text, identifiers taken apart.
fn words(text: &str) -> impl Iterator<Item = String> {
    let mut spaced = String::new();
    let mut was_lower = false;
    for c in text.chars() {
        if c.is_uppercase() && was_lower {
            spaced.push(' ');
        }
        was_lower = c.is_lowercase();
        spaced.push(if c.is_alphabetic() { c } else { ' ' });
    }
    spaced.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().into_iter()
}

#[test]
fn private_words_are_not_used() {
    let mut found = Vec::new();
    for (_, path, text) in sources() {
        for (idx, line) in text.lines().enumerate() {
            for word in words(line) {
                let singular = word.trim_end_matches('s');
                let banned = BANNED.iter().find(|(banned, _)| *banned == word || *banned == singular);
                // What was called so once is refused by name, a temperature is an inverse one or the paper's, and a
                // column of other people's data has their name.
                let meant = ["inverse", "tau", "RENAMED", "\"judge\""];
                let is_meant = meant.iter().any(|word| line.contains(word));
                if let Some((_, instead)) = banned.filter(|_| !is_meant) {
                    found.push(format!("{}:{}: {word}, say {instead}", path.display(), idx + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "{} private words:\n{}", found.len(), found.join("\n"));
}

/// A first sentence with a noun and a verb tells more than a relative clause.
#[test]
fn no_comment_opens_with_a_relative_clause() {
    const OPENINGS: [&str; 8] = ["What", "How", "Whether", "Where", "Which", "Who", "Whoever", "Nobody"];
    let mut found = Vec::new();
    for (_, path, text) in sources() {
        let mut was_comment = false;
        for (idx, line) in text.lines().enumerate() {
            let comment =
                line.trim_start().strip_prefix("//").map(|rest| rest.trim_start_matches(['/', '!']).trim());
            let opening = comment.filter(|_| !was_comment).and_then(|text| text.split([' ', ',']).next());
            if opening.is_some_and(|word| OPENINGS.contains(&word)) {
                found.push(format!("{}:{}: {}", path.display(), idx + 1, line.trim()));
            }
            assert!(
                comment.is_none() || line.chars().count() <= 120,
                "{}:{}: a comment of {} characters",
                path.display(),
                idx + 1,
                line.chars().count()
            );
            was_comment = comment.is_some_and(|text| !text.is_empty());
        }
    }
    assert!(found.is_empty(), "{} relative clauses:\n{}", found.len(), found.join("\n"));
}
