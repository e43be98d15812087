#!/bin/sh
# Writes the plain manifests in deploy/kubernetes/ anew, from the Helm chart with its default values: so the two cannot part. With a
# folder as argument they are written there.
set -eu
. "$(dirname "$0")/tools.sh"
cd "$(dirname "$0")/.."
folder=${1:-deploy/kubernetes}
if ! is_there helm >/dev/null; then
    echo "Helm is missing: scripts/install-kubernetes.sh" >&2
    exit 1
fi
render() {
    # A Helm that was built from source does not know the cluster's version.
    "$found" template tidegate deploy/helm/tidegate --kube-version 1.30.0 "$@" | sed '/^# Source: /d; /managed-by: Helm/d'
}
mkdir -p "$folder"
{
    echo '# Tidegate on Kubernetes without Helm: made of deploy/helm/tidegate by scripts/renew-kubernetes.sh. It wants a Secret `tidegate`'
    echo '# with S3_ACCESS_KEY, S3_SECRET_KEY, JWT_SECRET_KEY and ADMIN_TOKEN: docs/recipes/kubernetes.md.'
    render
} >"$folder/tidegate.yaml"
{
    echo '# For the Prometheus operator, whose kinds a cluster need not have.'
    render --set serviceMonitor.enabled=true --show-only templates/servicemonitor.yaml
} >"$folder/servicemonitor.yaml"
