//! Serves health and reflection, and builds routes by method from the descriptors of `proto/`.

use std::convert::Infallible;

use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse;
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, health_reporter};
use tonic_reflection::server::Builder;
use tower::Service;

use super::DESCRIPTORS;

/// The reason that compiled-in descriptors are not served.
#[derive(Debug, thiserror::Error)]
#[error("the description of proto/ can't be served: {0}")]
pub struct DescriptorError(Box<dyn std::error::Error + Send + Sync>);

impl From<prost::DecodeError> for DescriptorError {
    fn from(error: prost::DecodeError) -> Self {
        Self(error.into())
    }
}

impl From<tonic_reflection::server::Error> for DescriptorError {
    fn from(error: tonic_reflection::server::Error) -> Self {
        Self(error.into())
    }
}

/// The status for health checks, of the server and of each of its services.
#[derive(Debug)]
pub struct Serving {
    reporter: HealthReporter,
    services: Vec<String>,
}

impl Serving {
    /// Marks all services as not serving.
    pub async fn stop(&self) {
        for service in &self.services {
            self.reporter.set_service_status(service, ServingStatus::NotServing).await;
        }
    }
}

/// Returns the routes of health and of both versions of reflection.
pub(super) async fn routes() -> Result<(Router, Serving), DescriptorError> {
    let (reporter, health) = health_reporter();
    let services = [vec![String::new()], services(DESCRIPTORS)?.into_iter().map(|(name, _)| name).collect()];
    let services = services.concat();
    for service in &services {
        reporter.set_service_status(service, ServingStatus::Serving).await;
    }
    let described = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let routes = by_method(tonic_health::pb::FILE_DESCRIPTOR_SET, &health)?
        .merge(by_method(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET, &described().build_v1()?)?)
        .merge(by_method(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET, &described().build_v1alpha()?)?);
    Ok((routes, Serving { reporter, services }))
}

/// Returns one route for each method, so that metrics can name it, and one for unknown methods, which have no name.
pub(super) fn by_method<S>(descriptors: &[u8], server: &S) -> Result<Router, DescriptorError>
where
    S: Service<Request, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
    S::Response: IntoResponse,
    S::Future: Send + 'static,
{
    let mut routes = Router::new().route_service(&format!("/{}/{{method}}", S::NAME), server.clone());
    for (_, methods) in services(descriptors)?.iter().filter(|(name, _)| name == S::NAME) {
        for method in methods {
            routes = routes.route_service(&format!("/{}/{method}", S::NAME), server.clone());
        }
    }
    Ok(routes)
}

/// Returns the full name and the methods of every service that is described.
fn services(descriptors: &[u8]) -> Result<Vec<(String, Vec<String>)>, prost::DecodeError> {
    let set = FileDescriptorSet::decode(descriptors)?;
    let services = set.file.iter().flat_map(|file| {
        file.service.iter().map(|service| {
            let methods = service.method.iter().map(|method| method.name().to_owned()).collect();
            (format!("{}.{}", file.package(), service.name()), methods)
        })
    });
    Ok(services.collect())
}
