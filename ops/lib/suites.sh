# Sourced by what runs suites of Tests/. Expects `log`, a file that holds the output of one suite at a time, and counts
# in `passed` and `failed`. Where CORDON_TEST_WARDEN_LOG names a file, the wardens of a suite write to it.

# run_suite SUITE BUNDLE…: runs the tests of a folder, or of one type in it (`Journeys.OrdinaryUserJourney`), one after
# the other. BUNDLE is the program that `swift build --build-tests` makes of all tests, with what stands before it and
# options of its own.
#
# It is what `swift test --skip-build --disable-xctest --no-parallel --filter …` starts, with the same arguments, but
# with its output going to the file as it is: SwiftPM relays it in pieces, and loses a piece that ends within a
# character such as those of Swift Testing's own marks.
run_suite() {
  local suite=$1 started=$SECONDS status=0 closing count bad reports good
  shift
  [ -z "${CORDON_TEST_WARDEN_LOG:-}" ] || : >"$CORDON_TEST_WARDEN_LOG"
  NO_COLOR=1 "$@" --testing-library swift-testing --no-parallel --filter "^$suite[./]" >"$log" 2>&1 || status=$?
  # The closing line of Swift Testing counts what ran; a suite that ran nothing has failed, whatever it says.
  closing=$(grep -aE 'Test run with [0-9]+ tests?' "$log" | tail -n 1 || true)
  count=$(sed -nE 's/.*Test run with ([0-9]+) tests?.*/\1/p' <<<"$closing")
  bad=$(grep -aE '^✘ Test .* failed after' "$log" | grep -avc '^✘ Test run' || true)
  # A report of a sanitizer is a failure even where the test it came from passed, and so is its doubt in its own reports.
  # Not where it knows no stack at all: a zygote starts without /proc, and it says that when one exits, upon the stack's end.
  [ -z "${CORDON_TEST_WARDEN_LOG:-}" ] || cat "$CORDON_TEST_WARDEN_LOG" >>"$log"
  reports=$(grep -aE 'ERROR: (Address|Leak)Sanitizer|WARNING: (ASan is ignoring|ThreadSanitizer)' "$log" \
    | grep -avcE 'stack type: default top: 0x0+;' || true)
  if [ "$status" = 0 ] && [ "${count:-0}" -gt 0 ] && [ "$reports" = 0 ]; then
    echo "   $count passed, $((SECONDS - started)) s"
    passed=$((passed + count))
    return
  fi
  bad=$((bad + reports))
  [ "$bad" -gt 0 ] || bad=1
  cat "$log"
  [ "$reports" = 0 ] || echo "   $reports reports of the sanitizer"
  echo "   ${count:-0} run, $bad failed (exit status $status), $((SECONDS - started)) s"
  failed=$((failed + bad))
  good=$((${count:-0} - bad))
  passed=$((passed + (good > 0 ? good : 0)))
}
