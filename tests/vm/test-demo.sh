#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The demo is a test, too: hit ratios, quota, the guest's pages, the report and the picture.
#
# timeout: 240
set -eu

exec "${BUILD:-build}/tests/demo" --tap
