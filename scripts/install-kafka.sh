#!/bin/sh
# Fetches Apache Kafka for the tests, by Maven, into ${TIDEGATE_TOOLS:-~/.cache/tidegate}/kafka (46 jars, 44 MB).
# The version is pinned: the newest one whose every jar is in the repository.
set -eu

VERSION=4.3.1
# The same places, in the same order, as tests/it/support/kafka.rs.
for found in "${TIDEGATE_TOOLS:+$TIDEGATE_TOOLS/kafka}" "$HOME/.cache/tidegate/kafka"; do
    if [ -n "$found" ] && [ -f "$found/kafka_2.13-$VERSION.jar" ]; then
        echo "Kafka: $found"
        exit 0
    fi
done

folder="${TIDEGATE_TOOLS:-$HOME/.cache/tidegate}/kafka"
echo "Kafka: fetching $VERSION into $folder (once; half a minute)"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/pom.xml" <<END
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tidegate</groupId>
  <artifactId>kafka-for-tests</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$VERSION</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
END
mvn -q -B -f "$work/pom.xml" dependency:copy-dependencies -DoutputDirectory="$work/lib" -DincludeScope=runtime
mkdir -p "$(dirname "$folder")"
rm -rf "$folder"
mv "$work/lib" "$folder"
echo "Kafka: $folder"
