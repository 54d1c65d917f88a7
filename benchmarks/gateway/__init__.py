"""How fast is the gateway, beside nginx, HAProxy, SGLang's router, TensorZero, Portkey and LiteLLM?"""
