# Prints zsh's completion of the last word on a command line, if only one is possible.
#   zsh -f completed.zsh FUNCTIONS LINE
zmodload zsh/zpty
zpty shell zsh -f
zpty -w shell "PS1=; fpath=(${(q)1} \$fpath); autoload -U compinit; compinit -u -D
show() { zle complete-word; print -r -- \"<\$BUFFER>\"; exit }
zle -N show; bindkey '^T' show"
sleep 1
zpty -w -n shell "$2"$'\x14'
zpty -r shell output '*<*[^R]>*'
[[ $output =~ '<([^<>]*)>[^<>]*$' ]] && print -r -- ${${(z)match[1]}[-1]}
