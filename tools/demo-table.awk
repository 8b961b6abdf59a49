# Compares two models by what `train` and then `eval` printed about each: awk -f tools/demo-table.awk MODEL.txt OTHER.txt
# One of the two evaluations may have counted n-grams, whose lines follow.

function number(text) {
  gsub(/,/, "", text)
  return text + 0
}
# megabytes(ARENAS, OUTSIDE): two numbers of bytes with commas.
function megabytes(arenas, outside) {
  return (number(arenas) + number(outside)) / 1e6
}
# merit(VALUES, TEXT): the model with the lower value has the merit TEXT.
function merit(values, text,    best) {
  best = values[name[2]] < values[name[1]] ? name[2] : name[1]
  merits[best] = merits[best] (merits[best] ? ", " : "") text
}
# listed("a, b, c"): "a, b and c".
function listed(text) {
  if (match(text, /, [^,]*$/)) text = substr(text, 1, RSTART - 1) " and" substr(text, RSTART + 1)
  return text
}

FNR == 1 { model = $1; sub(/,$/, "", model); name[++models] = model }
/^training / { parameters[model] = $2 }
/^trained / { seconds[model] = $7 }
/^memory: / { memory[model] = megabytes($3, $7) }
$1 == model && NF == 9 { loss[model] = $2; bits[model] = $5 }
/^Kneser-Ney / { ngrams[++orders] = sprintf("%-20s%12s%10s%12s%13s%16s", $1 " " $2, "", "", "", $3, $6) }

END {
  printf "%-20s%12s%10s%12s%13s%16s\n", "", "parameters", "seconds", "memory", "nats/token", "bits per byte"
  for (i = 1; i <= models; ++i) {
    m = name[i]
    printf "%-20s%12s%10.1f%9.1f MB%13s%16s\n", m, parameters[m], seconds[m], memory[m], loss[m], bits[m]
  }
  for (i = 1; i <= orders; ++i) print ngrams[i]
  merit(loss, "the lowest loss")
  merit(seconds, "the shortest training")
  merit(memory, "the least memory")
  print ""
  for (i = 1; i <= models; ++i)
    if (merits[name[i]]) print "Use " name[i] " for " listed(merits[name[i]]) "."
  print "That is one pass over one text with one seed."
}
