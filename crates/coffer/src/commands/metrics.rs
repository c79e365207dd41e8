//! `coffer metrics`: what the roles count, as text that Prometheus reads.
//!
//! Of one role it is that role's own text. Of all it is one text as well: a name is described once, and each sample says its role.

use std::io::{self, Write};

use base::Role;

use crate::cli::Metrics;
use crate::failure::{Outcome, output_broke};
use crate::layout::Layout;
use crate::operator;

/// Prints.
pub(crate) async fn run(args: Metrics) -> Outcome {
    let layout = Layout::at(&args.data.data)?;
    let text = match args.role {
        Some(role) => operator::metrics(&layout, role).await?,
        None => {
            let asked = Role::ALL.map(|role| {
                let layout = &layout;
                async move { Ok((role, operator::metrics(layout, role).await?)) }
            });
            together(&futures::future::try_join_all(asked).await?)
        }
    };
    io::stdout().write_all(text.as_bytes()).map_err(|error| output_broke(&error))
}

/// One metric of several roles.
struct Family<'a> {
    name: &'a str,
    /// `# HELP`, `# TYPE` and the like, as the first role writes them.
    described: Vec<&'a str>,
    samples: Vec<String>,
}

/// One text of several: the lines of a metric have to stand together, and no two samples may look the same.
fn together(texts: &[(Role, String)]) -> String {
    let mut families: Vec<Family<'_>> = Vec::new();
    for (role, text) in texts {
        let mut at = None;
        for line in text.lines().filter(|line| *line != "# EOF" && !line.is_empty()) {
            if let Some(comment) = line.strip_prefix("# ") {
                let name = comment.split(' ').nth(1).unwrap_or_default();
                let known = families.iter().position(|family| family.name == name);
                let index = known.unwrap_or_else(|| {
                    families.push(Family {
                        name,
                        described: Vec::new(),
                        samples: Vec::new(),
                    });
                    families.len() - 1
                });
                at = Some(index);
                let family = &mut families[index];
                if !family.described.contains(&line) {
                    family.described.push(line);
                }
            } else if let Some(index) = at {
                families[index].samples.push(labelled(line, *role));
            }
        }
    }
    let mut all = String::new();
    for family in &families {
        let described = family.described.iter().copied();
        for line in described.chain(family.samples.iter().map(String::as_str)) {
            all.push_str(line);
            all.push('\n');
        }
    }
    all.push_str("# EOF\n");
    all
}

/// The sample with its role as the first label.
fn labelled(sample: &str, role: Role) -> String {
    let end = sample.find(['{', ' ']).unwrap_or(sample.len());
    let (name, rest) = sample.split_at(end);
    match rest.strip_prefix('{') {
        Some(labels) if !labels.starts_with('}') => format!("{name}{{role=\"{role}\",{labels}"),
        Some(labels) => format!("{name}{{role=\"{role}\"{labels}"),
        None => format!("{name}{{role=\"{role}\"}}{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_of_several_roles_is_described_once_and_says_whose_each_sample_is() {
        let vault = "# HELP coffer_up up.\n# TYPE coffer_up gauge\ncoffer_up 1\n# EOF\n";
        let gateway = "# HELP coffer_rows rows.\n# TYPE coffer_rows counter\ncoffer_rows_total{stage=\"md5\"} 7\n\
                       # HELP coffer_up up.\n# TYPE coffer_up gauge\ncoffer_up 2\n# EOF\n";

        let text = together(&[(Role::Vault, vault.into()), (Role::Gateway, gateway.into())]);

        assert_eq!(
            text,
            "# HELP coffer_up up.\n# TYPE coffer_up gauge\ncoffer_up{role=\"vault\"} 1\ncoffer_up{role=\"gateway\"} 2\n\
             # HELP coffer_rows rows.\n# TYPE coffer_rows counter\ncoffer_rows_total{role=\"gateway\",stage=\"md5\"} 7\n# EOF\n"
        );
    }
}
