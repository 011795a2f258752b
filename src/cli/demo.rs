//! The demos of `imdsd serve`: one instance on loopback, without a configuration file.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::path::Path;

use super::demo_socket;
use crate::config::{self, Config};
use crate::control::AccessKeys;
use crate::daemon::documents;
use crate::document;
use crate::document::aemm;
use crate::fault::Fault;
use crate::guest::tree;
use crate::instance::{Attachment, Instance, InstanceState};

/// A demo's configuration and its instance.
pub(super) struct Demo {
    pub config: Config,
    pub instance: Instance,
    pub warnings: Vec<Fault>,
}

impl Demo {
    /// The built-in demo instance.
    pub(super) fn built_in() -> Demo {
        Demo::of(config::demo_instance())
    }

    /// The one instance of a document.
    pub(super) fn of_document(file: &Path) -> Result<Demo, Vec<Fault>> {
        let fault = |message: String| vec![Fault::of_file(file, message)];
        let mut instances = document::read_path(file)?;
        if instances.len() != 1 {
            return Err(fault(format!(
                "expected one instance, found {}; to serve several, use a configuration (--config)",
                instances.len()
            )));
        }
        let instance = instances.remove(0);
        check(file, &instance)?;
        let state = instance.state;
        if !matches!(state, InstanceState::Pending | InstanceState::Running) {
            return Err(fault(format!(
                "State: the instance is {}, so its guest would not be served; set it to running",
                state.as_str()
            )));
        }
        let exposed = documents::exposed_secret(&instance, file);
        let mut demo = Demo::of(instance);
        demo.warnings
            .extend(exposed.map(|fault| fault.in_file(file, 0)));
        Ok(demo)
    }

    /// What a configuration of amazon-ec2-metadata-mock describes, on the mock's address and port.
    pub(super) fn of_mock(file: &Path, mock: aemm::Mock) -> Result<Demo, Vec<Fault>> {
        let aemm::Mock {
            instance,
            address,
            port,
            warnings,
        } = mock;
        check(file, &instance)?;
        let mut demo = Demo::of(instance);
        demo.warnings = warnings;
        let listener = &mut demo.config.listeners[0];
        listener.ipv4 = Some(SocketAddrV4::new(address, port));
        listener.ipv6 = Some(SocketAddrV6::new(Ipv6Addr::LOCALHOST, port, 0, 0));
        match (&mut demo.config.control, port.checked_add(1)) {
            (Some(control), Some(next)) => control.listen.set_port(next),
            _ => {
                demo.config.control = None;
                let message = "is the last port, so there is no EC2 API on the next one";
                demo.warnings.push(Fault {
                    field: "server.port".to_string(),
                    ..Fault::of_file(file, message)
                });
            }
        }
        Ok(demo)
    }

    fn of(mut instance: Instance) -> Demo {
        let mut config = Config::demo();
        config.admin = demo_socket::settings();
        instance.imds.attachments =
            vec![Attachment::Listener(config.listeners[0].name.clone().into()).into()];
        Demo {
            config,
            instance,
            warnings: Vec::new(),
        }
    }
}

fn check(file: &Path, instance: &Instance) -> Result<(), Vec<Fault>> {
    let faults = tree::faults(instance).into_iter();
    let faults: Vec<Fault> = faults.map(|fault| fault.in_file(file, 0)).collect();
    match faults.is_empty() {
        true => Ok(()),
        false => Err(faults),
    }
}

/// Prints commands for a new user to paste.
pub(super) fn print_commands(
    instance: &Instance,
    guest: SocketAddr,
    control: SocketAddr,
    has_state: bool,
    has_admin: bool,
) {
    let id = &instance.instance_id;
    let region = instance.region();
    let (access_key_id, secret) = AccessKeys::DEMO;
    println!("imdsd serves {id} on http://{guest}, and the EC2 API on http://{control}.");
    if !has_state {
        println!("Changes are lost when it stops; a configuration (--config) keeps them.");
    }
    println!("\n# Get a session token and read with it:");
    println!(
        "TOKEN=$(curl -sX PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 21600' http://{guest}/latest/api/token) && \
         curl -sH \"X-aws-ec2-metadata-token: $TOKEN\" http://{guest}/latest/meta-data/instance-id"
    );
    println!("\n# Use the role's credentials with any AWS SDK or the AWS CLI:");
    println!("AWS_EC2_METADATA_SERVICE_ENDPOINT=http://{guest} aws configure list");
    println!("\n# Change the metadata options while guests read:");
    println!(
        "AWS_ACCESS_KEY_ID={access_key_id} AWS_SECRET_ACCESS_KEY={secret} aws ec2 modify-instance-metadata-options \
         --endpoint-url http://{control} --region {region} --instance-id {id} --http-tokens optional"
    );
    if has_admin {
        let program = std::env::args().next().unwrap_or("imdsd".to_string());
        println!(
            "\n# Announce a spot interruption in five seconds; see what else operators can do:"
        );
        println!("{program} event spot --in 5s; {program} instance --help");
    }
}
