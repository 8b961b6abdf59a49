# cmake -DINPUT=file -DOUTPUT=header -DNAME=variable -P embed.cmake writes a text file as a C++ string.
file(READ ${INPUT} text)
file(WRITE ${OUTPUT} "// Made from ${NAME} at build time.\ninline constexpr char ${NAME}[] = R\"embedded(${text})embedded\";\n")
