#!/bin/sh
# Installs what checks the files for Kubernetes in ${TIDEGATE_TOOLS:-~/.cache/tidegate}: Helm, built with Go, and kubernetes-validate,
# which has the schemas of Kubernetes' versions with it.
set -eu
. "$(dirname "$0")/go-tools.sh"
HELM=v3.19.0
VALIDATE=1.37.0
if ! is_there helm; then
    begin helm "$HELM" 1.24
    GOBIN="$FOLDER" go install "helm.sh/helm/v3/cmd/helm@$HELM"
fi
if ! is_there kubernetes-validate; then
    echo "kubernetes-validate: fetching $VALIDATE into ${FOLDER%/bin}/kubernetes-validate"
    mkdir -p "$FOLDER"
    python3 -m pip install --quiet --disable-pip-version-check --upgrade --target "${FOLDER%/bin}/kubernetes-validate" \
        "kubernetes-validate==$VALIDATE"
    cat >"$FOLDER/kubernetes-validate" <<'END'
#!/bin/sh
here="$(cd "$(dirname "$0")/.." && pwd)/kubernetes-validate"
PYTHONPATH="$here" exec python3 -c 'from kubernetes_validate.__main__ import main; raise SystemExit(main())' "$@"
END
    chmod +x "$FOLDER/kubernetes-validate"
fi
