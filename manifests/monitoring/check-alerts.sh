#!/usr/bin/env bash
# Runs promtool's checks on the alert rules: takes them out of the PrometheusRule, whose wrapper
# promtool does not read. Argument: a folder to work in.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$1
mkdir -p "$work"
# The rules are what stands under "spec:", two columns to the left.
sed -n '/^spec:$/,$p' "$here/prometheus-rule.yaml" | sed -e 1d -e 's/^  //' >"$work/pointsman.rules.yaml"
cp "$here/alerts.test.yaml" "$work/"
cd "$work"
promtool check rules pointsman.rules.yaml
promtool test rules alerts.test.yaml
