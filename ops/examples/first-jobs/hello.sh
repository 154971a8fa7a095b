echo "I am $(id -un), attempt $CORDON_ATTEMPT, in $PWD"
ls /usr/bin | wc -l > "$CORDON_OUTPUT/programs.txt"
echo "{\"programs\": $(cat "$CORDON_OUTPUT/programs.txt")}" > "$CORDON_RESULT"
