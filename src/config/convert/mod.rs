//! Configurations of other programs, written as Tidegate's YAML: what changed its meaning has a comment, what is refused stays as
//! a comment with the reason. What comes out loads.

mod document;
mod nginx_s3_gateway;
mod yarp;

#[cfg(test)]
pub use nginx_s3_gateway::SETTINGS;
pub use nginx_s3_gateway::convert_nginx_s3_gateway;
pub use yarp::convert_yarp;

/// A configuration that was converted.
#[derive(Debug)]
pub struct ConvertedConfig {
    /// The YAML.
    pub yaml: String,
    /// What could not be taken over, a sentence for each.
    pub refused: Vec<String>,
}
