#!/usr/bin/env bash
# Install what tests need from Debian: a browser, a font, a DICOM validator, a PACS. Never a reason to fail.
set -euo pipefail

missing=()
command -v chromium >/dev/null || missing+=(chromium)
command -v fc-list >/dev/null && fc-list | grep -q DejaVu || [[ -d /usr/share/fonts/truetype/dejavu ]] || missing+=(fonts-dejavu-core)
command -v dciodvfy >/dev/null || missing+=(dicom3tools)
command -v Orthanc >/dev/null || missing+=(orthanc orthanc-dicomweb)
if ((${#missing[@]} == 0)); then
  exit 0
fi

say="apt-get install --no-install-recommends ${missing[*]}"
if ! command -v apt-get >/dev/null; then
  echo "Not installed: ${missing[*]}. Tests that need them skip. On Debian: $say"
elif [[ "$(id -u)" != 0 ]]; then
  echo "Not installed: ${missing[*]}. Tests that need them skip. As root: $say"
elif ! { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" \
  || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; }; } \
  >/dev/null 2>&1; then
  echo "Could not install ${missing[*]}. Tests that need them skip. By hand: $say"
fi
