#!/bin/sh
# Installs what speaks gRPC with the gateway in ${TIDEGATE_TOOLS:-~/.cache/tidegate}: Python with grpcio, as the program `grpc-python`.
set -eu
. "$(dirname "$0")/tools.sh"
GRPCIO=1.85.3
if ! is_there grpc-python; then
    echo "grpc-python: fetching grpcio $GRPCIO into ${FOLDER%/bin}/grpcio"
    mkdir -p "$FOLDER"
    python3 -m pip install --quiet --disable-pip-version-check --upgrade --target "${FOLDER%/bin}/grpcio" "grpcio==$GRPCIO"
    cat >"$FOLDER/grpc-python" <<'END'
#!/bin/sh
PYTHONPATH="$(cd "$(dirname "$0")/.." && pwd)/grpcio" exec python3 "$@"
END
    chmod +x "$FOLDER/grpc-python"
fi
