#!/bin/bash
# Starts Elasticsearch without its shell scripts, which the packages leave out. Each variable with a dot in its name is
# a setting, as in the real image.
set -eu
export ES_HOME=/usr/share/elasticsearch ES_PATH_CONF=/usr/share/elasticsearch/config ES_JAVA_TYPE=bundled
export ES_JAVA_HOME=$ES_HOME/jdk JAVA_HOME=$ES_HOME/jdk JAVA=$ES_HOME/jdk/bin/java JAVA_TYPE="bundled JDK"
export ES_DISTRIBUTION_TYPE=docker ES_TMPDIR=/tmp HOSTNAME=${HOSTNAME:-elasticsearch}
# The shipped options write up to 2 GB of garbage collection logs.
export ES_JAVA_OPTS="${ES_JAVA_OPTS:-} -Xlog:disable -Xlog:all=warning:stderr"
settings=()
while IFS='=' read -r -d '' name value; do
    if [[ $name =~ ^[a-z_.]+$ && $name == *.* ]]; then settings+=("-E$name=$value"); fi
done < /proc/self/environ
if [[ -n ${ELASTIC_PASSWORD:-} && ! -f config/elasticsearch.keystore ]]; then
    export CLI_NAME=keystore CLI_LIBS=lib/tools/keystore-cli
    bash bin/elasticsearch-cli create
    echo "$ELASTIC_PASSWORD" | bash bin/elasticsearch-cli add -x bootstrap.password
    unset CLI_NAME CLI_LIBS
fi
exec "$JAVA" -Xms4m -Xmx64m -XX:+UseSerialGC -cp "lib/tools/server-launcher/*" \
    org.elasticsearch.server.launcher.ServerLauncher "${settings[@]}"
